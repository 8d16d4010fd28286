-- A rate by GCRA, shared: the time at which none of its burst would be in use. Microseconds, integers; time is the server's.
--
-- KEYS   the account
-- ARGV   1 burst, 2 period_ms, 3 what is corrected of earlier draws, in microseconds (negative: given back)
--        4 wanted for calls to come; 5 less than this is of no use; 6 limit for it
--        then of each call that waits: amount, limit
-- answer 'ok', server's ms, drawn for calls that wait, drawn ahead, microseconds until none of the burst is in use,
--        1 where what was drawn ahead should be given back

local SHARE_AHEAD = 8 -- no sidecar draws more than this part of what is left
local burst, period_us = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function cost_us(amount) return math.ceil(amount * period_us / burst) end

local empty_us = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now_us)
empty_us = math.max(empty_us + tonumber(ARGV[3]), now_us)
local limit_us = cost_us(tonumber(ARGV[6]))
empty_us = math.min(empty_us, now_us + 2 * limit_us) -- nobody waits longer than for two bursts

local drawn, is_short = 0, false
for need = 7, #ARGV, 2 do
    local next_us = empty_us + cost_us(tonumber(ARGV[need]))
    if next_us - now_us <= cost_us(tonumber(ARGV[need + 1])) then
        empty_us, drawn = next_us, drawn + tonumber(ARGV[need])
    else
        is_short = true
    end
end
local ahead = 0
local share = math.floor((limit_us - (empty_us - now_us)) * burst / period_us / SHARE_AHEAD)
if not is_short then
    ahead = math.min(tonumber(ARGV[4]), share)
    if ahead <= 0 or ahead < tonumber(ARGV[5]) then ahead = 0 end
    empty_us = empty_us + cost_us(ahead)
end
if empty_us > now_us then
    redis.call('SET', KEYS[1], string.format('%.0f', empty_us), 'PX', string.format('%.0f', math.ceil((empty_us - now_us) / 1000) + 1000))
else
    redis.call('DEL', KEYS[1])
end
return {'ok', math.floor(now_us / 1000), drawn, ahead, empty_us - now_us, (is_short or share <= 0) and 1 or 0}
