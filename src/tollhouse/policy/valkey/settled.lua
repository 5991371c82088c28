-- ARGV: moment (us).  Answers 1 if no claim stands that began before it.
return #redis.call('ZRANGEBYSCORE', key('began'), '-inf', '(' .. ARGV[3], 'LIMIT', 0, 1) == 0 and 1 or 0
