-- ARGV: claim id, the packed part.
-- Answers {0, missing...} placed; {1, missing...} a rate is full; {2, n} the n-th seats are taken; {3, n, spent, held} the n-th purse is
-- too empty; {4, n...} these purses are not seeded.
local id, packed = ARGV[3], ARGV[4]
local part = cmsgpack.unpack(packed)
local began, hold, rates, seats, purses = part[1], part[2], part[4], part[5], part[6]

local unseeded, empty = {4}, nil
for n, purse in ipairs(purses) do
  local seeded, spent, held = read_purse(purse[1])
  if not seeded then
    unseeded[#unseeded + 1] = n
  elseif not empty and purse[2] >= 0 and spent + held + hold > purse[2] then
    empty = {3, n, spent, held}
  end
end
if #unseeded > 1 then
  return unseeded
end
if empty then
  return empty
end

local levels, is_full = {0}, false
if #rates > 0 then
  local keys = {}
  for n, rate in ipairs(rates) do
    keys[n] = rate_key(rate[1])
  end
  local values = redis.call('MGET', unpack(keys))
  for n, rate in ipairs(rates) do
    levels[n + 1] = read_rate(rate[1], rate[2], values[n])
    if levels[n + 1] + rate[3] * MINUTE_US > rate[2] * MINUTE_US then
      is_full = true
    end
  end
  if is_full then
    levels[1] = 1
    return levels
  end
end

-- An id that stands already is extended, whether announced or not: nothing that it holds may be forgotten.
local home = key('claims', me)
local standing = redis.call('HGET', home, id)
if not standing then
  standing = redis.call('HGET', key('taken', me), id)
  if standing then
    home = key('taken', me)
  end
end
local has_seat = {}
if standing then
  for _, earlier in ipairs({cmsgpack.unpack(standing)}) do
    for _, seat in ipairs(earlier[5]) do
      has_seat[seat[1]] = true
    end
  end
end
for n, seat in ipairs(seats) do
  if not has_seat[seat[1]] and tonumber(redis.call('HGET', key('seats'), seat[1]) or 0) >= seat[2] then
    return {2, n}
  end
end

for n, rate in ipairs(rates) do
  levels[n + 1] = levels[n + 1] + rate[3] * MINUTE_US
  write_rate(rate[1], rate[2], levels[n + 1])
end
for _, seat in ipairs(seats) do
  if not has_seat[seat[1]] then
    redis.call('HINCRBY', key('seats'), seat[1], 1)
  end
end
if hold > 0 then
  for _, purse in ipairs(purses) do
    redis.call('HINCRBY', key('purse', purse[1]), 'held', int(hold))
  end
end
if standing then
  packed = standing .. packed
else
  redis.call('ZADD', key('began'), int(began), id)
end
redis.call('HSET', home, id, packed)
return levels
