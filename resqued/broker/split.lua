-- In front of the scripts about claims: a claim, `JOB_ID KEY_OF_QUEUE`, in its two parts. What a
-- queue's key begins with is RQ's (`Queue.redis_queue_namespace_prefix`); an id may have spaces.

local function split(claim)
    local at = string.find(claim, ' rq:queue:', 1, true) or string.find(claim, ' ', 1, true)
    if not at then
        return claim, ''
    end
    return string.sub(claim, 1, at - 1), string.sub(claim, at + 1)
end

