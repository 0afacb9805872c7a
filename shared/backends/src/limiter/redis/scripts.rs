//! What the limiter does in Redis besides permits: each in one step, on this server's time.

/// KEYS claim; ARGV worker, lease in milliseconds. 1 mine, 0 held, -1 finished.
pub(super) const CLAIM: &str = "
local holder = redis.call('GET', KEYS[1])
if holder == '' then return -1 end
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1";

/// KEYS claim; ARGV how long it is remembered, in milliseconds. 1 taken back, 0 held, -1 finished before.
pub(super) const REVOKE: &str = "
local holder = redis.call('GET', KEYS[1])
if holder == '' then return -1 end
if holder then return 0 end
redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
return 1";

/// KEYS pause; ARGV wait in microseconds. Never shortens a pause.
pub(super) const PAUSE: &str = "
local time = redis.call('TIME')
local until_then = time[1] * 1000000 + time[2] + tonumber(ARGV[1])
if until_then > tonumber(redis.call('GET', KEYS[1]) or 0) then
  redis.call('SET', KEYS[1], string.format('%.0f', until_then), 'PX', math.ceil(tonumber(ARGV[1]) / 1000))
end";

/// KEYS requests under way, usage; ARGV slot, whether it was never sent.
pub(super) const END: &str = "
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 and ARGV[2] == '1' then
  if tonumber(redis.call('HGET', KEYS[2], 'daily') or 0) > 0 then redis.call('HINCRBY', KEYS[2], 'daily', -1) end
end";

/// KEYS usage; ARGV the day (-1: today), requests used on it, what is allowed a day (-1: not told). Answers {day, used}.
pub(super) const DAILY: &str = "
local time = redis.call('TIME')
local today = math.floor((time[1] * 1000000 + time[2]) / 86400000000)
local known = redis.call('HMGET', KEYS[1], 'day', 'daily')
local used = tonumber(known[2] or 0)
if tonumber(known[1] or 0) < today then used = 0 end
if ARGV[1] == '-1' or tonumber(ARGV[1]) == today then used = math.max(used, tonumber(ARGV[2])) end
redis.call('HSET', KEYS[1], 'day', today, 'daily', string.format('%.0f', used))
if ARGV[3] ~= '-1' then redis.call('HSET', KEYS[1], 'allowed', ARGV[3]) end
redis.call('PEXPIRE', KEYS[1], 172800000)
return {today, used}";
