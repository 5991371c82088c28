-- Registers claims again that an earlier epoch held: whatever the limits say, for their calls are running.
-- ARGV: id, packed, id, packed, ...
for n = 3, #ARGV, 2 do
  local id, packed = ARGV[n], ARGV[n + 1]
  if not redis.call('ZSCORE', key('began'), id) then
    local began, seats = nil, {}
    for _, part in ipairs({cmsgpack.unpack(packed)}) do
      began = began or part[1]
      for _, seat in ipairs(part[5]) do
        seats[seat[1]] = true
      end
      for _, purse in ipairs(part[6]) do
        redis.call('HINCRBY', key('purse', purse[1]), 'held', int(part[2]))
        expire_purse(purse[1], purse[3])
      end
    end
    for name in pairs(seats) do
      redis.call('HINCRBY', key('seats'), name, 1)
    end
    redis.call('ZADD', key('began'), int(began), id)
    redis.call('HSET', key('claims', me), id, packed)
  end
end
return {}
