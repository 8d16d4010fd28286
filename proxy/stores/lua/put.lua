-- Set what counts as spent in a window. What sidecars report later comes on top: they report by what they have reported before.
--
-- KEYS   the account
-- ARGV   1 start_ms of the period, 2 counts_from_ms, 3 time to keep it until, 4 amount, 5 what makes its incarnation unique, should it be new
-- answer 'ok', server's ms

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(name, 1, 1) == 's' and tonumber(string.sub(name, 2)) >= tonumber(ARGV[2]) then
        redis.call('HDEL', KEYS[1], name)
    end
end
redis.call('HSETNX', KEYS[1], 'i', string.format('%.0f', now_ms) .. '.' .. ARGV[5])
redis.call('HSET', KEYS[1], 's' .. ARGV[1], ARGV[4] .. ' ' .. ARGV[3])
redis.call('HINCRBY', KEYS[1], 'v', 1)
local expires_ms = math.max(tonumber(ARGV[3]), tonumber(redis.call('HGET', KEYS[1], 'u') or 0))
redis.call('HSET', KEYS[1], 'u', string.format('%.0f', expires_ms))
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expires_ms))
return {'ok', now_ms}
