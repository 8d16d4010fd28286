-- What one sidecar has spent of an account, and what it may hold of it. Integers only; time is the server's.
--
-- KEYS   the account; then of each reported period the hash of what each sidecar has spent in it; at last the epoch, but not in a cluster
-- ARGV   1 sidecar, 2 number of the request, 3 lease_ms
--        4 incarnation and 5 version of the account as the sidecar remembers it ('' and 0: not at all)
--        6 start_ms and 7 end_ms of the period, 8 counts_from_ms, 9 time to keep it until
--        10 held by calls under way: granted whatever the limit; 11 kept for calls to come: the same, unless a call waits for more
--        12 wanted for calls to come, 11 among it; 13 less than this is of no use; 14 limit for it
--        15 spent and 16 held by others, as the sidecar knew them with 4
--        17 number of reports, 18 for how many ms nothing is granted after a loss, 19 how many the epoch is kept
--        20 incarnation that the sidecar saw last ('': none)
--        then of each report: start_ms, keep until, spent so far, of that acknowledged, of that in an older incarnation
--        then of each call that waits: amount, limit
-- answer status ('ok', 'time': the period isn't the server's, 'old': a later request came first, 'lost': the incarnation isn't what was
--        seen last, so nothing was done), server's ms, incarnation, version,
--        held, spent in the window, held by others, of that what no call is known to use, 1 where what is kept should be given back,
--        1 where somebody was short of late, ms until everybody has told what was lost (until then nothing is granted; negative: since
--        then; 0: nothing was); and, where somebody was short, what was spent in each period: start_ms, amount, …
--
-- The account is a hash: `i` incarnation, `v` version, `w` until when somebody is short, `u` expiry, s<start> 'spent keep_until',
-- h<sidecar> 'held idle lease_until start request', l<start> spending known from before a loss, `h~` what was held before it,
-- `n` until when nothing is granted after a loss. The epoch is the time at which this Redis began, or last began anew.
-- What is reported is always the sum since the sidecar began: a report may be repeated, and one that a failover lost is made good by the next.

local MARGIN_MS = 1000   -- how far a sidecar's clock may be off
local SHORT_MS = 150     -- how long nobody draws ahead after somebody was short
local SHARE_AHEAD = 8    -- no sidecar draws more than this part of what is left
local LOST_MS = 2000     -- how long what others held before a loss is left to them
local HEARD_MS = 500     -- what a sidecar that was silent for longer doesn't use, it won't give back soon

local account, sidecar, request = KEYS[1], ARGV[1], tonumber(ARGV[2])
local lease_ms, start_ms, end_ms = tonumber(ARGV[3]), tonumber(ARGV[6]), tonumber(ARGV[7])
local counts_from_ms, keep_until_ms = tonumber(ARGV[8]), tonumber(ARGV[9])
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function text(number) return string.format('%.0f', number) end

-- The account as it is; what has run out is dropped.

local incarnation, version, short_until_ms, expiry_ms, legacy, settled_ms = nil, 0, 0, 0, 0, nil
local legacy_field = 'l' .. (counts_from_ms == start_ms and ARGV[6] or 'r')
local spent, kept_until, held_by_others, idle_of_others, lost_held = {}, {}, 0, 0, 0
local is_known_here, last_request, held_before = false, 0, 0
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
            is_known_here, last_request, held_before = true, tonumber(number), tonumber(held)
        elseif tonumber(lease_until_ms) <= now_ms then
            redis.call('HDEL', account, name)
        elseif tonumber(since_ms) >= counts_from_ms then
            held_by_others = held_by_others + tonumber(held)
            if tonumber(lease_until_ms) - lease_ms > now_ms - HEARD_MS then idle_of_others = idle_of_others + tonumber(idle) end
            if rest == '~' then lost_held = tonumber(held) end
        end
    elseif kind == 'i' then incarnation = value
    elseif kind == 'v' then version = tonumber(value)
    elseif kind == 'w' then short_until_ms = tonumber(value)
    elseif kind == 'u' then expiry_ms = tonumber(value)
    elseif kind == 'n' then settled_ms = tonumber(value)
    elseif name == legacy_field then legacy = tonumber(value)
    end
end
if request < last_request then
    return {'old', now_ms, incarnation or '', version, 0, 0, 0, 0, 0, 0, 0, {}}
end

-- An account that was lost (flushed) is made again from what its sidecars know of it. Who never knew it can't tell whether it was lost, but
-- that a Redis which began long ago has lost nothing of late.

local reports, settle_ms = tonumber(ARGV[17]), tonumber(ARGV[18])
local is_lost = ARGV[4] == incarnation and tonumber(ARGV[5]) > version
if not incarnation then
    local epoch = KEYS[reports + 2]
    if epoch then
        local began_ms = redis.call('GET', epoch) or text(now_ms)
        redis.call('SET', epoch, began_ms, 'PX', ARGV[19])
        is_lost = now_ms < tonumber(began_ms) + settle_ms
    end
    incarnation = text(now_ms) .. '.' .. time[2] .. '.' .. sidecar
    redis.call('HSET', account, 'i', incarnation)
end
local is_recovered = ARGV[4] ~= '' and ARGV[4] ~= incarnation
local is_another = ARGV[20] ~= '' and ARGV[20] ~= incarnation
if is_lost or ((is_recovered or is_another) and not settled_ms) then
    settled_ms = now_ms + settle_ms
    redis.call('HSET', account, 'n', text(settled_ms))
end
if is_another then
    redis.call('PEXPIREAT', account, text(math.max(now_ms + lease_ms, expiry_ms)))
    return {'lost', now_ms, incarnation, version, 0, 0, 0, 0, 0, 0, 0, {}}
end
local is_settling = settled_ms and now_ms < settled_ms
local settled_in_ms = 0
if settled_ms then settled_in_ms = is_settling and settled_ms - now_ms or math.min(-1, settled_ms - now_ms) end
local at = 21 + 5 * reports
local is_waited_for = at <= #ARGV
local kept = (is_settling or not is_waited_for) and tonumber(ARGV[11]) or 0
local forced = tonumber(ARGV[10]) + kept
if is_recovered then
    local known = tonumber(ARGV[15])
    if known > legacy then
        spent[start_ms] = (spent[start_ms] or 0) + known - legacy
        redis.call('HSET', account, 's' .. text(start_ms), text(spent[start_ms]) .. ' ' .. text(keep_until_ms),
            legacy_field, text(known))
        kept_until[start_ms] = keep_until_ms
    end
    if is_settling and not is_known_here then
        local told_again = held_by_others - lost_held
        local others = math.max(0, lost_held - forced, tonumber(ARGV[16]) - told_again)
        held_by_others = told_again + others
        redis.call('HSET', account, 'h~', text(others) .. ' 0 ' .. text(now_ms + LOST_MS) .. ' ' .. text(start_ms) .. ' 0')
    end
end

-- What was spent since the last report.

for report = 1, reports do
    local first = 16 + 5 * report
    local period_ms, until_ms, so_far = tonumber(ARGV[first]), tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
    local before = is_recovered and tonumber(ARGV[first + 3]) or tonumber(ARGV[first + 4])
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
local held, is_short = forced, short_until_ms > now_ms
local is_repeated = is_known_here and request == last_request -- it may go by either answer: both say the same
if is_repeated then
    held, total = held_before, total + held_before - forced
elseif is_in_time and not is_settling then
    local is_refused = false
    for need = at, #ARGV, 2 do
        local amount = tonumber(ARGV[need])
        if total + amount <= tonumber(ARGV[need + 1]) then
            held, total = held + amount, total + amount
        else
            is_refused = true
        end
    end
    if is_refused then
        is_short = true
        redis.call('HSET', account, 'w', text(now_ms + SHORT_MS))
    end
end
if is_short then
    for period_ms, amount in pairs(spent) do
        table.insert(by_period, period_ms)
        table.insert(by_period, amount)
    end
end
local share = math.floor((tonumber(ARGV[14]) - total) / SHARE_AHEAD)
local useful = tonumber(ARGV[13])
local is_low = not is_settling and (is_short or share < math.max(kept, useful) or not is_in_time)
if not is_low and not is_settling and not is_repeated then
    local ahead = math.min(tonumber(ARGV[12]) - kept, share)
    if ahead >= useful then held = held + ahead end
end

redis.call('HSET', account, 'h' .. sidecar,
    text(held) .. ' ' .. text(held - tonumber(ARGV[10])) .. ' ' .. text(now_ms + lease_ms) .. ' ' .. text(start_ms) .. ' ' .. text(request))
version = redis.call('HINCRBY', account, 'v', 1)
local expires_ms = keep_until_ms
if keep_until_ms >= 9007199254740992 then expires_ms = now_ms + 4 * lease_ms end
expires_ms = math.max(expires_ms, now_ms + lease_ms)
if expires_ms > expiry_ms then
    redis.call('HSET', account, 'u', text(expires_ms))
    redis.call('PEXPIREAT', account, text(expires_ms))
end
return {is_in_time and 'ok' or 'time', now_ms, incarnation, version, held, spent_in_window, held_by_others, idle_of_others,
    is_low and 1 or 0, is_short and 1 or 0, settled_in_ms, by_period}
