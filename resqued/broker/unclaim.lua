-- Remove a claim: put the job back to the front of its queue, or only forget it.
--
-- KEYS  1 claims
-- ARGV  1 owner  2 suffix of the keys of intermediate lists  3 `1`: put the job back; `0`: do not
--       4 do it only for this job, if not empty  5 the event for its story (`tell.lua`), or empty
--
-- Returns the id of what was put back, or nothing. An id that is no longer in the intermediate list was
-- handled by RQ's maintenance. The maintenance's note of when it first saw the id is deleted too.
-- If the intermediate list has the wrong type, the job is put back.

local claim = redis.call('HGET', KEYS[1], ARGV[1])
if not claim then
    return false
end
local id, queue = split(claim)
if ARGV[4] ~= '' and ARGV[4] ~= id then
    return false
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('DEL', queue .. ARGV[2] .. ':first_seen:' .. id)
if redis.pcall('LREM', queue .. ARGV[2], 1, id) == 0 or ARGV[3] == '0' then
    return false
end
back(queue, id)
tell(ARGV[5], id)
return id
