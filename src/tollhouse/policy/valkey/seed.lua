-- ARGV: name, before (us), spent, 1 if confirmed, ends at (us) or 0.  Answers the moment that holds.
local name, before, base, is_confirmed = ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1'
local seeded, _, _, was_confirmed = read_purse(name)
if seeded and (was_confirmed or seeded ~= tonumber(before)) then
  return seeded
end
redis.call('HSET', key('purse', name), 'before', before, 'base', base)
-- It is not confirmed while an earlier claim stands, whatever was thought: that one's row is still missing from the sum.
if is_confirmed and #redis.call('ZRANGEBYSCORE', key('began'), '-inf', '(' .. before, 'LIMIT', 0, 1) == 0 then
  redis.call('HSET', key('purse', name), 'confirmed', '1', 'early', '0')
end
expire_purse(name, tonumber(ARGV[7]))
return tonumber(before)
