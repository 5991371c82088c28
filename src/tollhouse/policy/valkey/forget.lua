-- ARGV: names.  What is held stays held.
for n = 3, #ARGV do
  local _, _, held = read_purse(ARGV[n])
  if held > 0 then
    redis.call('HDEL', key('purse', ARGV[n]), 'before', 'base', 'own', 'early', 'early_at', 'confirmed')
  else
    redis.call('DEL', key('purse', ARGV[n]))
  end
end
return {}
