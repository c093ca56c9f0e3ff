-- Part of the scripts that take jobs: whether a queue has as many jobs in hand as it may have in the
-- whole fleet.
--
-- Limits are JSON: {key of a queue: [limit, key of RQ's registry of started jobs, key of the
-- intermediate list, keys of the executions of guests ...]}. An entry of the registry that has
-- expired is of a worker that is gone. What is in the intermediate list was taken and is started
-- next. A guest is a worker that does not obey limits: while it has no job, room is left for it.

local function read_limits(text)
    return cjson.decode(text)
end

local function count_of(...)
    local answer = redis.pcall(...)
    return type(answer) == 'number' and answer or 0
end

local function is_full(limit, now)
    if not limit then
        return false
    end
    local count = count_of('ZCOUNT', limit[2], '(' .. now, '+inf') + count_of('LLEN', limit[3])
    for i = 4, #limit do
        if count_of('SCARD', limit[i]) == 0 then
            count = count + 1
        end
    end
    return count >= limit[1]
end

