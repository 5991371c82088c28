-- Stands before every script, behind a line that says what `now` is: microseconds since the epoch, by the server's clock.
--
-- KEYS[1] is the prefix of all keys; its hash tag keeps them in one slot of a cluster.  The other keys cannot be named by the
-- caller, since the store alone knows what a claim holds; they are built from the prefix and so lie in the same slot.
-- ARGV[1] is the epoch, ARGV[2] the session that asks.
--
-- Numbers are doubles here: whole numbers are exact up to 2^53, and `int` writes all of their digits.
local prefix, epoch, me = KEYS[1], ARGV[1], ARGV[2]
local MINUTE_US = 60000000
local ENDLESS_MS = 3024000000 -- 35 days: how long a purse without an end is kept unused
local AFTER_END_MS = 86400000 -- one day: how long a purse is kept after its window
local UNVISITED_MS = 604800000 -- 7 days: how long an epoch is kept that nobody visits

local function int(number)
  return string.format('%.0f', number)
end

local function key(kind, name)
  if name then
    return prefix .. ':' .. epoch .. ':' .. kind .. ':' .. name
  end
  return prefix .. ':' .. epoch .. ':' .. kind
end

-- A rate is what is missing from its bucket, in tokens * microseconds of a minute, and when that was so: both whole numbers, and
-- refilling for one microsecond takes `per_minute` off.  A full bucket has no key.
local function rate_key(name)
  return prefix .. ':rate:' .. name
end

local function write_rate(name, per_minute, missing)
  if missing <= 0 then
    redis.call('DEL', rate_key(name))
  else
    local full_in_ms = math.ceil(missing / per_minute / 1000)
    redis.call('SET', rate_key(name), int(missing) .. ' ' .. int(now), 'PX', int(full_in_ms + 60000))
  end
end

local function read_rate(name, per_minute, value)
  if not value then
    return 0
  end
  local missing, at = string.match(value, '^(%d+) (%d+)$')
  missing, at = tonumber(missing), tonumber(at)
  if at > now then
    -- The clock was set back: without this the bucket would not refill until the clock is there again.
    write_rate(name, per_minute, missing)
    return missing
  end
  return math.max(0, missing - (now - at) * per_minute)
end

-- A purse is a hash: `before`, the moment it was seeded for (without it, it is unseeded); `base`, the ledger's sum then; `own`, settled
-- since by claims that began at or after it; `early`, settled by earlier ones, in the sum or not, the last at
-- `early_at`; `held`; `confirmed`: `early` is in the sum.
local function read_purse(name)
  local seeded, base, own, early, held, confirmed =
    unpack(redis.call('HMGET', key('purse', name), 'before', 'base', 'own', 'early', 'held', 'confirmed'))
  local spent = (base or 0) + (own or 0) + (early or 0)
  return seeded and tonumber(seeded), spent, tonumber(held or 0), confirmed == '1'
end

local function expire_purse(name, ends_at_us)
  if ends_at_us > 0 then
    redis.call('PEXPIREAT', key('purse', name), int(math.max(now, ends_at_us) / 1000 + AFTER_END_MS))
  else
    redis.call('PEXPIRE', key('purse', name), int(ENDLESS_MS))
  end
end

-- When nobody has come by for this long, it was the store that was away, not a gateway that died: every session then gets the time
-- of a lease to come back before its claims are given to others.
local function note_visit(lease_us)
  local last = redis.call('GET', key('visited'))
  if not last or now - last > lease_us / 2 then
    redis.call('SET', key('mercy'), int(now + lease_us), 'PX', int(UNVISITED_MS))
  end
  redis.call('SET', key('visited'), int(now), 'PX', int(UNVISITED_MS))
end
