-- ARGV: moment (us).  Answers 1 if no claim stands that began before it, and remembers when it was asked: see `seed.lua`.
if #redis.call('ZRANGEBYSCORE', key('began'), '-inf', '(' .. ARGV[3], 'LIMIT', 0, 1) > 0 then
  return 0
end
redis.call('SET', key('asked', me), int(now), 'PX', 60000)
return 1
