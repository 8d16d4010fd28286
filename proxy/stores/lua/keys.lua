-- The virtual keys, where they are no longer what the sidecar knows: most of the time nothing is sent.
--
-- KEYS   the hash of keys
-- ARGV   1 digest of what the sidecar knows; empty: nothing yet
-- answer nothing if that is what is there, else its digest, then names and entries in turn

local found = redis.call('HGETALL', KEYS[1])
local lengths = {}
for index, text in ipairs(found) do
    lengths[index] = #text
end
local digest = redis.sha1hex(table.concat(lengths, ',') .. ':' .. table.concat(found))
if digest == ARGV[1] then
    return {}
end
table.insert(found, 1, digest)
return found
