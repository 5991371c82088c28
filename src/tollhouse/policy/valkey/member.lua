-- Behind `common` in every script but those that begin and end a session.  A session that the store does not know has lost its claims
-- to others, or the store has lost everything: either way it has to join again, and nothing is done for it before.
if not redis.call('ZSCORE', key('owners'), me) then
  return redis.error_reply('JOIN this session is not known')
end
