//! What the limiter does in Redis besides permits: each in one step, on this server's time.

/// The time of an account, whose usage is the first argument, or the time that is told: this server's, which goes on by its ticks where
/// that is set back, or where another server that is behind has taken its place.
pub(super) const TICKS: &str = "
local function text(number) return string.format('%.0f', number) end
local function ticks(usage, told)
  local time = redis.call('TIME')
  local now = told or time[1] * 1000000 + time[2]
  local known = redis.call('HMGET', usage, 'seen', 'behind')
  local seen, behind = tonumber(known[1] or 0), tonumber(known[2] or 0)
  if now + behind < seen then
    behind = seen - now
    redis.call('HSET', usage, 'behind', text(behind))
  end
  redis.call('HSET', usage, 'seen', text(now + behind))
  redis.call('PEXPIRE', usage, 172800000)
  return now + behind
end
";

// The claims of a run are one hash, which lives as long as its gate is renewed: by chunk `ATTEMPT MOMENT HOLDER`, where nobody
// else takes the attempt until the moment, in microseconds. The holder `+` says that it was granted and that no delivery has it yet;
// without a holder it is over, and with the moment 1 it was taken back before any delivery held it. Of attempts that are not the
// chunk's newest nothing is kept: they are over. What is not there was never granted. Of an attempt with announced requests the hash
// has by `n` and chunk `ATTEMPT REQUESTS`, too.

/// KEYS claims; ARGV how long they are remembered in milliseconds, `+` to grant or nothing to close, then chunk and attempt, again
/// and again.
pub(super) const SET: &str = "
for place = 3, #ARGV, 2 do
  local claim = redis.call('HGET', KEYS[1], ARGV[place])
  local newest, attempt = claim and tonumber(string.match(claim, '^%d+')), tonumber(ARGV[place + 1])
  if not newest or newest < attempt or (newest == attempt and ARGV[2] == '') then
    redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 1] .. ' 0 ' .. ARGV[2])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])";

/// KEYS claims, usage; ARGV chunk, attempt, how long it is remembered in milliseconds, holder, lease in microseconds, requests that
/// the holder has announced. Answers {whose, requests that were announced before}: 1 mine, 2 inherited, 0 held, -1 finished, -2 not
/// granted.
pub(super) const CLAIM: &str = "
local now, attempt, claimed = ticks(KEYS[2]), tonumber(ARGV[2]), 1
local claim = redis.call('HGET', KEYS[1], ARGV[1])
if not claim then return {-2, 0} end
local newest, until_then, holder = string.match(claim, '^(%d+) (%d+) (.*)$')
newest = tonumber(newest)
if newest < attempt then return {-2, 0} end
if newest > attempt or holder == '' then return {-1, 0} end
if holder ~= '+' and holder ~= ARGV[4] then
  if tonumber(until_then) > now then return {0, 0} end
  claimed = 2
end
local of, announced = string.match(redis.call('HGET', KEYS[1], 'n' .. ARGV[1]) or '', '^(%d+) (%d+)$')
announced = of == ARGV[2] and tonumber(announced) or 0
if tonumber(ARGV[6]) > announced then
  redis.call('HSET', KEYS[1], 'n' .. ARGV[1], ARGV[2] .. ' ' .. ARGV[6])
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%s %.0f %s', ARGV[2], now + tonumber(ARGV[5]), ARGV[4]))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {claimed, announced}";

/// KEYS claims, usage; ARGV chunk, attempt, how long it is remembered in milliseconds, grace in microseconds. Answers
/// {what, requests that were announced}: 1 nobody ever held it, 2 its holder is gone for longer than that, 0 held, -1 finished
/// before, -2 nothing is known of it.
/// Whoever asks again about what nobody ever held is told the same: what was to be written of it may not have been.
pub(super) const REVOKE: &str = "
local now, attempt, revoked = ticks(KEYS[2]), tonumber(ARGV[2]), 1
local claim = redis.call('HGET', KEYS[1], ARGV[1])
if not claim then return {-2, 0} end
local newest, until_then, holder = string.match(claim, '^(%d+) (%d+) (.*)$')
newest = tonumber(newest)
if newest > attempt or (newest == attempt and holder == '' and until_then ~= '1') then return {-1, 0} end
if newest == attempt and holder ~= '' and holder ~= '+' then
  if until_then + ARGV[4] > now then return {0, 0} end
  revoked = 2
end
local of, announced = string.match(redis.call('HGET', KEYS[1], 'n' .. ARGV[1]) or '', '^(%d+) (%d+)$')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. (revoked == 1 and ' 1 ' or ' 0 '))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {revoked, of == ARGV[2] and tonumber(announced) or 0}";

/// KEYS claims; ARGV chunk, attempt, how long it is remembered in milliseconds. What is not known stays so.
pub(super) const FINISH: &str = "
local claim = redis.call('HGET', KEYS[1], ARGV[1])
if not claim or tonumber(string.match(claim, '^%d+')) > tonumber(ARGV[2]) then return end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' 0 ')
redis.call('PEXPIRE', KEYS[1], ARGV[3])";

/// KEYS pause, usage; for requests of a run also gate and claims; ARGV holder, chunk, attempt. Answers {code, microseconds}:
/// 0 nothing has changed, 1 closed, 2 lost, 3 paused for so long.
pub(super) const CHANGED: &str = "
if KEYS[3] then
  if redis.call('EXISTS', KEYS[3]) == 0 then return {1, 0} end
  local attempt, holder = string.match(redis.call('HGET', KEYS[4], ARGV[2]) or '', '^(%d+) %d+ (.*)$')
  if attempt ~= ARGV[3] or holder ~= ARGV[1] then return {2, 0} end
end
local paused = tonumber(redis.call('GET', KEYS[1]) or 0) - ticks(KEYS[2])
if paused <= 0 then return {0, 0} end
return {3, paused}";

/// KEYS lanes; ARGV account, concurrency, for how long in microseconds.
pub(super) const ANNOUNCE: &str = "
local time = redis.call('TIME')
local until_then = time[1] * 1000000 + time[2] + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', until_then, ARGV[2]))";

/// KEYS any. Fails where permits would: a server may answer, and take nothing.
pub(super) const CHECK: &str = "ticks(KEYS[1])";

/// KEYS lanes. Answers account and concurrency, one after the other; forgets what has lapsed.
pub(super) const LANES: &str = "
local time = redis.call('TIME')
local now, all, known = time[1] * 1000000 + time[2], redis.call('HGETALL', KEYS[1]), {}
for place = 1, #all, 2 do
  local until_then, concurrency = string.match(all[place + 1], '^(%d+) (%d+)$')
  if tonumber(until_then) > now then
    known[#known + 1] = all[place]
    known[#known + 1] = concurrency
  else
    redis.call('HDEL', KEYS[1], all[place])
  end
end
return known";

/// KEYS pause, usage; ARGV wait in microseconds. Never shortens a pause.
pub(super) const PAUSE: &str = "
local until_then = ticks(KEYS[2]) + tonumber(ARGV[1])
if until_then > tonumber(redis.call('GET', KEYS[1]) or 0) then
  redis.call('SET', KEYS[1], string.format('%.0f', until_then), 'PX', math.ceil(tonumber(ARGV[1]) / 1000))
end";

/// KEYS requests under way, usage; ARGV slot, whether it was never sent.
pub(super) const END: &str = "
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 and ARGV[2] == '1' then
  if tonumber(redis.call('HGET', KEYS[2], 'daily') or 0) > 0 then redis.call('HINCRBY', KEYS[2], 'daily', -1) end
end";

/// KEYS usage; ARGV the day of which the ledger knows (-1: the destination tells, of today), requests used on it (-1: not told), what
/// is allowed a day (-1: not told). As in `Usage`, less is believed of a destination where it is below half of what is known.
/// Answers {day, used, 1 where less was believed on it}.
pub(super) const DAILY: &str = "
local today = math.floor(ticks(KEYS[1]) / 86400000000)
local known = redis.call('HMGET', KEYS[1], 'day', 'daily')
local used = tonumber(known[2] or 0)
if tonumber(known[1] or 0) < today then used = 0 end
local told = tonumber(ARGV[2])
if ARGV[1] == '-1' and told >= 0 and told < math.floor(used / 2) then
  used = told
  redis.call('HSET', KEYS[1], 'lowered', today)
elseif ARGV[1] == '-1' or tonumber(ARGV[1]) == today then
  used = math.max(used, told)
end
redis.call('HSET', KEYS[1], 'day', today, 'daily', string.format('%.0f', used))
if ARGV[3] ~= '-1' then redis.call('HSET', KEYS[1], 'allowed', ARGV[3]) end
return {today, used, tonumber(redis.call('HGET', KEYS[1], 'lowered') or -1) == today and 1 or 0}";
