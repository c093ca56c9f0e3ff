-- Part of the scripts about claims: split a claim, `JOB_ID KEY_OF_QUEUE`. The prefix of queues' keys
-- is RQ's (`Queue.redis_queue_namespace_prefix`); an id may contain spaces.

local function split(claim)
    local at = string.find(claim, ' rq:queue:', 1, true) or string.find(claim, ' ', 1, true)
    if not at then
        return claim, ''
    end
    return string.sub(claim, 1, at - 1), string.sub(claim, at + 1)
end

