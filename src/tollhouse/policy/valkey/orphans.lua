-- ARGV: at most how many, lease (us).  Answers id, began, hold, note, packed of each.
-- What is handed out lies in this session's name from then on; should it die too, it is handed out again.
local left, lease_us = tonumber(ARGV[3]), tonumber(ARGV[4])
note_visit(lease_us)
redis.call('ZADD', key('owners'), int(now + lease_us), me)
if now < tonumber(redis.call('GET', key('mercy')) or 0) then
  return {}
end

local found = {}
for _, session in ipairs(redis.call('ZRANGEBYSCORE', key('owners'), '-inf', '(' .. int(now), 'LIMIT', 0, 16)) do
  if left <= 0 then
    break
  end
  if string.sub(session, -1) ~= '!' then
    -- From here on it is fenced: should its process turn out to live, it has to join again.
    redis.call('ZREM', key('owners'), session)
    local taken = redis.call('HGETALL', key('taken', session))
    for n = 1, #taken, 2 do
      redis.call('HSET', key('claims', session), taken[n], taken[n + 1])
    end
    redis.call('DEL', key('taken', session))
    if redis.call('EXISTS', key('claims', session)) == 1 then
      redis.call('RENAME', key('claims', session), key('claims', session .. '!'))
      redis.call('ZADD', key('owners'), 0, session .. '!')
    end
    session = session .. '!'
  end
  local home = key('claims', session)
  local claims = redis.call('HRANDFIELD', home, int(left), 'WITHVALUES')
  for n = 1, #claims, 2 do
    local id, packed = claims[n], claims[n + 1]
    local began, hold, note = nil, 0, ''
    for _, part in ipairs({cmsgpack.unpack(packed)}) do
      began = began or part[1]
      hold = hold + part[2]
      if part[3] ~= '' then
        note = part[3]
      end
    end
    redis.call('HDEL', home, id)
    redis.call('HSET', key('taken', me), id, packed)
    for _, value in ipairs({id, began, hold, note, packed}) do
      found[#found + 1] = value
    end
    left = left - 1
  end
  if redis.call('EXISTS', home) == 0 then
    redis.call('ZREM', key('owners'), session)
  end
end
return found
