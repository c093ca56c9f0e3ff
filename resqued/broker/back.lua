-- In front of the scripts that give a job back: an id to the front of its queue. A queue that
-- somebody has overwritten is set aside (`oddities.ASIDE`): the id is in no other place.

local function back(queue, id)
    local kind = redis.call('TYPE', queue).ok
    if kind ~= 'list' and kind ~= 'none' then
        redis.call('RENAME', queue, queue .. ':set-aside')
    end
    redis.call('LPUSH', queue, id)
end

