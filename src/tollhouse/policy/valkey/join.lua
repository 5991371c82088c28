-- Begins a session, or goes on with an earlier one of the same process on a new connection.
-- ARGV[1] is the epoch to begin if there is none; then: the session before or '', its epoch, the server's run id, lease (us),
-- packed list of the claims that the process knows.  Answers {epoch}.
--
-- Commands of the earlier session that are still on their way find it gone and do nothing.  So a claim whose placing was never
-- acknowledged either stands now, is unknown to the process and is released here, or will never stand.
local before, before_epoch, run, lease_us = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])

-- A server that was started again, or promoted, may have lost the last writes.  What it knows is not trusted: a new epoch begins, in
-- which purses are unseeded and each process registers its claims again.  Keys of the old one expire.
local known_run, known_epoch = unpack(redis.call('HMGET', prefix .. ':epoch', 'run', 'id'))
if known_run == run then
  epoch = known_epoch
else
  redis.call('HSET', prefix .. ':epoch', 'run', run, 'id', epoch)
end
redis.call('PEXPIRE', prefix .. ':epoch', int(UNVISITED_MS))
note_visit(lease_us)
redis.call('ZADD', key('owners'), int(now + lease_us), me)

if before ~= '' and before_epoch == epoch then
  local known = {}
  for _, id in ipairs(cmsgpack.unpack(ARGV[7])) do
    known[id] = true
  end
  for _, session in ipairs({before, before .. '!'}) do
    for _, kind in ipairs({'claims', 'taken'}) do
      local old = key(kind, session)
      local claims = redis.call('HGETALL', old)
      for n = 1, #claims, 2 do
        local id, packed = claims[n], claims[n + 1]
        if known[id] then
          redis.call('HSET', key(kind, me), id, packed)
        elseif kind == 'taken' then
          -- Handed out, but the answer was lost: somebody has to be given it again.
          redis.call('HSET', key('claims', '-!'), id, packed)
          redis.call('ZADD', key('owners'), 0, '-!')
        else
          end_claim(old, id, packed, nil, nil)
        end
      end
      redis.call('DEL', old)
    end
    redis.call('ZREM', key('owners'), session)
  end
end
return {epoch}
