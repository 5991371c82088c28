-- ARGV: claim id, cost (empty: release), tokens (empty: leave the estimate).  Answers name, before, after of each purse.
local id = ARGV[3]
for _, kind in ipairs({'claims', 'taken'}) do
  local packed = redis.call('HGET', key(kind, me), id)
  if packed then
    return end_claim(key(kind, me), id, packed, tonumber(ARGV[4]), tonumber(ARGV[5]))
  end
end
return {}
