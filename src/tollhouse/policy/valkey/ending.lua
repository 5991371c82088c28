-- Ends a claim.  Without a cost it is as if the claim had never been.
-- A claim is a sequence of packed parts: {began, hold, note, rates, seats, purses}; each extension has appended one.
local function end_claim(home, id, packed, cost, tokens)
  local began, rates, seats, holds, spendings = nil, {}, {}, {}, {}
  for _, part in ipairs({cmsgpack.unpack(packed)}) do
    began = began or part[1]
    for _, rate in ipairs(part[4]) do
      local seen = rates[rate[1]]
      if seen then
        seen[3] = seen[3] + rate[3]
      else
        rates[rate[1]] = rate
      end
    end
    for _, seat in ipairs(part[5]) do
      seats[seat[1]] = true
    end
    for _, purse in ipairs(part[6]) do
      local seen = holds[purse[1]]
      if seen then
        seen.hold = seen.hold + part[2]
      else
        holds[purse[1]] = {hold = part[2], ends_at_us = purse[3]}
        holds[#holds + 1] = purse[1]
      end
    end
  end

  for name, rate in pairs(rates) do
    local correction = 0
    if not cost then
      correction = -rate[3]
    elseif tokens and rate[4] == 1 then
      correction = tokens - rate[3]
    end
    if correction ~= 0 then
      local missing = read_rate(name, rate[2], redis.call('GET', rate_key(name)))
      write_rate(name, rate[2], missing + correction * MINUTE_US)
    end
  end

  for name in pairs(seats) do
    if redis.call('HINCRBY', key('seats'), name, -1) <= 0 then
      redis.call('HDEL', key('seats'), name)
    end
  end

  for _, name in ipairs(holds) do
    local hold = holds[name]
    local seeded, spent, held, is_confirmed = read_purse(name)
    redis.call('HSET', key('purse', name), 'held', int(math.max(0, held - hold.hold)))
    if cost then
      -- Is its row in the ledger's sum?  Not if it began at the moment or later, or ended after the sum was confirmed.  Otherwise nobody
      -- knows until it is; and whoever seeds a purse that is unseeded now may have read the ledger just before this row.
      local counts_in = seeded and (is_confirmed or began >= seeded) and 'own' or 'early'
      redis.call('HINCRBY', key('purse', name), counts_in, int(cost))
      if counts_in == 'early' then
        redis.call('HSET', key('purse', name), 'early_at', int(now))
      end
      if seeded then
        for _, value in ipairs({name, spent, spent + cost}) do
          spendings[#spendings + 1] = value
        end
      end
    end
    expire_purse(name, hold.ends_at_us)
  end

  redis.call('HDEL', home, id)
  redis.call('ZREM', key('began'), id)
  return spendings
end
