-- May a request leave? Gate, claim, pause, day, requests under way, windows and shares, in one step.
-- The arithmetic is that of `Usage` in shared/model/src/limit; a test holds the two together.
--
-- KEYS  usage, requests under way, shares, pause; for requests of a run also gate and claims
-- ARGV  now (0: the account's time), slot, lease, timeout, worker, quota of the day (-1: none), percent kept back,
--       requests under way at most (-1: any), urgent (0 or 1), ahead, horizon, share, sync,
--       how late a request has left, chunk, attempt, then of each window: name, units, length, intervals in that, intervals that may
--       come early, units that may leave in it at most (-1: pacing is enough)
-- Answers {code, microseconds, how late requests leave}: 0 send after the microseconds, 1 closed, 2 lost; ask again after them, for there is in the way
--       3 a window, 4 requests under way, 5 a pause, 6 the day's quota, 7 another sync's turn

local DAY, SHARE_MEMORY, SHARE_LEAD = 86400000000, 500000, 4000
local LATE_MAX, LATE_STEP, LATE_FORGOTTEN = 5000000, 100000, 20000000

local usage, flight, shares, pause, gate, claims = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local now, slot, lease, timeout, worker = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local quota, kept_back, most = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local urgent, ahead, horizon = ARGV[9] == '1', tonumber(ARGV[10]), tonumber(ARGV[11])
local share, sync, told, chunk, attempt = tonumber(ARGV[12]), ARGV[13], tonumber(ARGV[14]), ARGV[15], ARGV[16]
now = ticks(usage, now > 0 and now)

local known = redis.call('HMGET', usage, 'late', 'late_since')
local left = math.min(LATE_FORGOTTEN + tonumber(known[2] or 0) - now, LATE_FORGOTTEN)
local late = math.floor(tonumber(known[1] or 0) * math.max(left, 0) / LATE_FORGOTTEN)
told = math.max(math.min(told, LATE_MAX, 4 * late + LATE_STEP), 0)
if told >= late then
  late = told
  redis.call('HSET', usage, 'late', text(late), 'late_since', text(now))
end

local windows = {}
for first = 17, #ARGV, 6 do
  local window, apart = { name = ARGV[first], units = tonumber(ARGV[first + 1]) }, tonumber(ARGV[first + 3])
  window.within, window.most = tonumber(ARGV[first + 2]) + late, tonumber(ARGV[first + 5])
  window.interval = math.ceil(window.within / apart)
  window.tolerance = tonumber(ARGV[first + 4]) * window.interval
  window.arrival = redis.call('HGET', usage, window.name)
  windows[#windows + 1] = window
end

for _, window in ipairs(windows) do
  local arrival = window.arrival
  -- Unknown: others may have sent until just now, and the like of this.
  window.arrival = arrival and tonumber(arrival) or now + window.tolerance + window.interval
  if not arrival then
    redis.call('HSET', usage, window.name, text(window.arrival))
    if window.most >= 0 then
      redis.call('HSET', usage, 'log:' .. window.name, text(now) .. ' ' .. text(window.units) .. ' ')
    end
  end
  if window.most >= 0 then
    -- What left, and when the last of it did, in order: `MOMENT UNITS `, again and again.
    window.log = {}
    for left, units in string.gmatch(redis.call('HGET', usage, 'log:' .. window.name) or '', '(%d+) (%d+) ') do
      window.log[#window.log + 1] = { tonumber(left), tonumber(units) }
    end
  end
end

if gate then
  if redis.call('EXISTS', gate) == 0 then
    return {1, 0, late}
  end
  local held, holder = string.match(redis.call('HGET', claims, chunk) or '', '^(%d+) %d+ (.*)$')
  if held ~= attempt or holder ~= worker then
    return {2, 0, late}
  end
  redis.call('HSET', claims, chunk, attempt .. ' ' .. text(now + lease) .. ' ' .. worker)
end

local paused = tonumber(redis.call('GET', pause) or 0)
if paused > now then
  return {5, paused - now, late}
end

local day = math.floor(now / DAY)
known = redis.call('HMGET', usage, 'day', 'daily', 'allowed')
local daily = tonumber(known[2] or 0)
if day > tonumber(known[1] or 0) then
  daily = 0
end
local allowed = tonumber(known[3] or -1)
if quota < 0 or (allowed >= 0 and allowed < quota) then
  quota = allowed
end
if quota >= 0 and daily >= math.floor(quota * (100 - kept_back) / 100) then
  return {6, (day + 1) * DAY - now, late}
end

redis.call('ZREMRANGEBYSCORE', flight, '-inf', text(now))
if most >= 0 and redis.call('ZCARD', flight) >= math.max(most, 1) then
  return {4, 5000, late}
end

local at = now
for _, window in ipairs(windows) do
  at = math.max(at, window.arrival - window.tolerance)
  if window.log and #window.log > 0 then
    local used = 0
    for _, part in ipairs(window.log) do
      used = used + part[2]
    end
    at = math.max(at, window.log[#window.log][1])
    for _, part in ipairs(window.log) do
      if used + window.units <= window.most then
        break
      end
      at = math.max(at, part[1] + window.within)
      used = used - part[2]
    end
  end
end
if at > now + horizon then
  return {3, at - horizon - now, late}
end

if #windows > 0 then
  local all, least = redis.call('HGETALL', shares), nil
  local used
  for place = 1, #all, 2 do
    local who, asked, so_far = all[place], string.match(all[place + 1], '^(%d+) (%d+)$')
    if tonumber(asked) + SHARE_MEMORY <= now then
      redis.call('HDEL', shares, who)
    elseif who == sync then
      used = tonumber(so_far)
    else
      least = math.min(least or math.huge, tonumber(so_far))
    end
  end
  used = used or least or 0
  local waits = not urgent and least and used > least + SHARE_LEAD
  if not waits then
    used = used + share
  end
  redis.call('HSET', shares, sync, text(now) .. ' ' .. text(used))
  redis.call('PEXPIRE', shares, 60000)
  if waits then
    return {7, math.max(ahead, 1000), late}
  end
end

for _, window in ipairs(windows) do
  redis.call('HSET', usage, window.name, text(math.max(window.arrival, at) + window.units * window.interval))
  if window.log then
    local part, kept = math.max(math.floor(window.within / 64), 1), {}
    for _, left in ipairs(window.log) do
      if left[1] + window.within > at then
        kept[#kept + 1] = left
      end
    end
    local last = kept[#kept]
    if last and math.floor(last[1] / part) == math.floor(at / part) then
      last[1], last[2] = at, last[2] + window.units
    else
      kept[#kept + 1] = { at, window.units }
    end
    local texts = {}
    for place, left in ipairs(kept) do
      texts[place] = text(left[1]) .. ' ' .. text(left[2]) .. ' '
    end
    redis.call('HSET', usage, 'log:' .. window.name, table.concat(texts))
  end
end
redis.call('HSET', usage, 'day', text(day), 'daily', text(daily + 1))
redis.call('ZADD', flight, text(at + timeout), slot)
redis.call('PEXPIRE', flight, 86400000)
return {0, at - now, late}
