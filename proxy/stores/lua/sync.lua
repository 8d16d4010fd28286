-- What one sidecar has spent of an account, and what it may hold of it. Integers only; time is the server's.
--
-- KEYS   the account; then of each reported period the hash of what each sidecar has spent in it
-- ARGV   1 sidecar, 2 number of the request, 3 lease_ms
--        4 incarnation of the account and 5 version as the sidecar last saw them ('' and 0: never)
--        6 start_ms and 7 end_ms of the period, 8 counts_from_ms, 9 time to keep it until
--        10 held by calls under way and 11 kept for calls to come: granted whatever the limit
--        12 wanted beyond that; 13 less than this is of no use; 14 limit for it
--        15 spent and 16 held by others, as the sidecar last knew them
--        17 number of reports, then of each: start_ms, keep until, spent so far, of that acknowledged, of that in an older incarnation
--        then of each call that waits: amount, limit
-- answer status ('ok', 'time': the period isn't the server's, 'old': a later request came first), server's ms, incarnation, version,
--        held, spent in the window, held by others, of that idle, 1 where what is kept should be given back, and, where somebody was
--        short, what was spent in each period: start_ms, amount, …
--
-- The account is a hash: `i` incarnation, `v` version, `w` until when somebody is short, `u` expiry, s<start> 'spent keep_until',
-- h<sidecar> 'held idle lease_until start request', l<start> spending known from before a loss, `h~` what was held before it.
-- What is reported is always the sum since the sidecar began: a report may be repeated, and one that a failover lost is made good by the next.

local MARGIN_MS = 1000   -- how far a sidecar's clock may be off
local SHORT_MS = 150     -- how long nobody draws ahead after somebody was short
local SHARE_AHEAD = 8    -- no sidecar draws more than this part of what is left
local LOST_MS = 2000     -- how long what others held before a loss is left to them

local account, sidecar, request = KEYS[1], ARGV[1], tonumber(ARGV[2])
local lease_ms, start_ms, end_ms = tonumber(ARGV[3]), tonumber(ARGV[6]), tonumber(ARGV[7])
local counts_from_ms, keep_until_ms = tonumber(ARGV[8]), tonumber(ARGV[9])
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function text(number) return string.format('%.0f', number) end

-- The account as it is; what has run out is dropped.

local incarnation, version, short_until_ms, expiry_ms, legacy = nil, 0, 0, 0, 0
local legacy_field = 'l' .. (counts_from_ms == start_ms and ARGV[6] or 'r')
local spent, kept_until, held_by_others, idle_of_others, lost_held = {}, {}, 0, 0, 0
local is_known_here, last_request = false, 0
local fields = redis.call('HGETALL', account)
for index = 1, #fields, 2 do
    local name, value = fields[index], fields[index + 1]
    local kind, rest = string.sub(name, 1, 1), string.sub(name, 2)
    if kind == 's' then
        local amount, until_ms = string.match(value, '(%S+) (%S+)')
        if tonumber(until_ms) < now_ms then
            redis.call('HDEL', account, name)
        else
            spent[tonumber(rest)], kept_until[tonumber(rest)] = tonumber(amount), tonumber(until_ms)
        end
    elseif kind == 'h' then
        local held, idle, lease_until_ms, since_ms, number = string.match(value, '(%S+) (%S+) (%S+) (%S+) (%S+)')
        if rest == sidecar then
            is_known_here, last_request = true, tonumber(number)
        elseif tonumber(lease_until_ms) <= now_ms then
            redis.call('HDEL', account, name)
        elseif tonumber(since_ms) >= counts_from_ms then
            held_by_others = held_by_others + tonumber(held)
            idle_of_others = idle_of_others + tonumber(idle)
            if rest == '~' then lost_held = tonumber(held) end
        end
    elseif kind == 'i' then incarnation = value
    elseif kind == 'v' then version = tonumber(value)
    elseif kind == 'w' then short_until_ms = tonumber(value)
    elseif kind == 'u' then expiry_ms = tonumber(value)
    elseif name == legacy_field then legacy = tonumber(value)
    end
end
if request < last_request then
    return {'old', now_ms, incarnation or '', version, 0, 0, 0, 0, 0, {}}
end

-- An account that was lost (flushed) is made again from what its sidecars know of it.

if not incarnation then
    incarnation = text(now_ms) .. '.' .. time[2] .. '.' .. sidecar
    redis.call('HSET', account, 'i', incarnation)
end
local kept = tonumber(ARGV[11])
local forced = tonumber(ARGV[10]) + kept
local is_recovered = ARGV[4] ~= '' and ARGV[4] ~= incarnation
if is_recovered then
    local known = tonumber(ARGV[15])
    if known > legacy then
        spent[start_ms] = (spent[start_ms] or 0) + known - legacy
        redis.call('HSET', account, 's' .. text(start_ms), text(spent[start_ms]) .. ' ' .. text(keep_until_ms), 
            legacy_field, text(known))
        kept_until[start_ms] = keep_until_ms
    end
    if not is_known_here then
        local told_again = held_by_others - lost_held
        local others = math.max(0, lost_held - forced, tonumber(ARGV[16]) - told_again)
        held_by_others = told_again + others
        redis.call('HSET', account, 'h~', text(others) .. ' 0 ' .. text(now_ms + LOST_MS) .. ' ' .. text(start_ms) .. ' 0')
    end
end

-- What was spent since the last report.

local at = 18
for report = 1, tonumber(ARGV[17]) do
    local period_ms, until_ms, so_far = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local before = is_recovered and tonumber(ARGV[at + 3]) or tonumber(ARGV[at + 4])
    at = at + 5
    local reported = tonumber(redis.call('HGET', KEYS[1 + report], sidecar) or before)
    if so_far > reported or (so_far == reported and before > 0) then
        redis.call('HSET', KEYS[1 + report], sidecar, text(so_far))
        redis.call('PEXPIREAT', KEYS[1 + report], text(math.max(until_ms, now_ms + lease_ms)))
    end
    if so_far > reported and until_ms >= now_ms then
        spent[period_ms] = (spent[period_ms] or 0) + so_far - reported
        kept_until[period_ms] = math.max(until_ms, kept_until[period_ms] or 0)
        redis.call('HSET', account, 's' .. text(period_ms), text(spent[period_ms]) .. ' ' .. text(kept_until[period_ms]))
    end
end
local spent_in_window = 0
for period_ms, amount in pairs(spent) do
    if period_ms >= counts_from_ms then spent_in_window = spent_in_window + amount end
end
local by_period = {}

-- What it may hold: what is under way, then what waits and fits, then some for what comes.

local is_in_time = now_ms >= start_ms - MARGIN_MS and now_ms < end_ms + MARGIN_MS
local total = spent_in_window + held_by_others + forced
local held, is_short, idle = forced, short_until_ms > now_ms, kept
if is_in_time then
    for need = at, #ARGV, 2 do
        local amount = tonumber(ARGV[need])
        if total + amount <= tonumber(ARGV[need + 1]) then
            held, total = held + amount, total + amount
        else
            is_short = true
            redis.call('HSET', account, 'w', text(now_ms + SHORT_MS))
        end
    end
end
if is_short then
    for period_ms, amount in pairs(spent) do
        table.insert(by_period, period_ms)
        table.insert(by_period, amount)
    end
end
local share = math.floor((tonumber(ARGV[14]) - total) / SHARE_AHEAD)
local is_low = is_short or share < kept or not is_in_time
if not is_low then
    local ahead = math.min(tonumber(ARGV[12]), share)
    if ahead > 0 and ahead >= tonumber(ARGV[13]) then
        held, idle = held + ahead, idle + ahead
    end
end

redis.call('HSET', account, 'h' .. sidecar,
    text(held) .. ' ' .. text(idle) .. ' ' .. text(now_ms + lease_ms) .. ' ' .. text(start_ms) .. ' ' .. text(request))
version = redis.call('HINCRBY', account, 'v', 1)
local expires_ms = keep_until_ms
if keep_until_ms >= 9007199254740992 then expires_ms = now_ms + 4 * lease_ms end
expires_ms = math.max(expires_ms, now_ms + lease_ms)
if expires_ms > expiry_ms then
    redis.call('HSET', account, 'u', text(expires_ms))
    redis.call('PEXPIREAT', account, text(expires_ms))
end
return {is_in_time and 'ok' or 'time', now_ms, incarnation, version, held, spent_in_window, held_by_others, idle_of_others,
    is_low and 1 or 0, by_period}
