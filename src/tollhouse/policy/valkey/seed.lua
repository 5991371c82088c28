-- ARGV: name, before (us), spent, 1 if confirmed, ends at (us) or 0.  Answers the moment that holds.
local name, before, base, is_confirmed = ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1'
local seeded, _, _, was_confirmed = read_purse(name)
if seeded and (was_confirmed or seeded ~= tonumber(before)) then
  return seeded
end
-- Between the question whether all is settled and this answer the sum was read.  An earlier claim that came meanwhile (its machine's
-- clock is late, or it had waited), and may have ended meanwhile, is not in it: then nothing is confirmed, and what stands is kept.
if is_confirmed and seeded then
  local asked = tonumber(redis.call('GET', key('asked', me)))
  local early_at = tonumber(redis.call('HGET', key('purse', name), 'early_at') or 0)
  local stands = #redis.call('ZRANGEBYSCORE', key('began'), '-inf', '(' .. before, 'LIMIT', 0, 1) > 0
  if stands or (asked and early_at > asked) then
    return seeded
  end
end
redis.call('HSET', key('purse', name), 'before', before, 'base', base)
if is_confirmed then
  redis.call('HSET', key('purse', name), 'confirmed', '1', 'early', '0')
end
expire_purse(name, tonumber(ARGV[7]))
return tonumber(before)
