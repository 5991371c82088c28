-- Ends a session: what it still holds is an orphan at once.
if redis.call('ZSCORE', key('owners'), me) then
  if redis.call('EXISTS', key('claims', me), key('taken', me)) > 0 then
    redis.call('ZADD', key('owners'), 0, me)
  else
    redis.call('ZREM', key('owners'), me)
  end
end
return {}
