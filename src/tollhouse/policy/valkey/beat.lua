-- ARGV: lease (us).  Renews the lease, and the expiry of the keys that this session writes to.
local lease_us = tonumber(ARGV[3])
note_visit(lease_us)
redis.call('ZADD', key('owners'), int(now + lease_us), me)
for _, name in ipairs({key('owners'), key('began'), key('seats'), key('claims', me), key('taken', me), prefix .. ':epoch'}) do
  redis.call('PEXPIRE', name, int(UNVISITED_MS))
end
return {}
