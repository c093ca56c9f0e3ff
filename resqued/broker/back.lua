-- Part of the scripts that put a job back: push an id to the front of its queue. A key of the wrong
-- type in the queue's place is renamed first (`bad_data.ASIDE`): else the id would be lost.

local function back(queue, id)
    local kind = redis.call('TYPE', queue).ok
    if kind ~= 'list' and kind ~= 'none' then
        redis.call('RENAME', queue, queue .. ':set-aside')
    end
    redis.call('LPUSH', queue, id)
end

