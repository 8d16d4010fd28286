-- How long ago this Redis began, or began anew after it had lost everything.
--
-- KEYS   the epoch, a time in ms
-- ARGV   1 how long to keep it, ms
-- answer milliseconds

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local began_ms = redis.call('GET', KEYS[1]) or string.format('%.0f', now_ms)
redis.call('SET', KEYS[1], began_ms, 'PX', ARGV[1])
return {now_ms - tonumber(began_ms)}
