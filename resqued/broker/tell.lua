-- Part of the scripts that put a job back: add an event to the job's story (`story.py`).
--
-- event: empty, or JSON: the prefix of the stories' keys, how many events are kept, for how many
-- seconds, then fields and values. Whatever Redis refuses here, the job is put back.

local function tell(event, id)
    if event == nil or event == '' then
        return
    end
    local words = cjson.decode(event)
    redis.pcall('XADD', words[1] .. id, 'MAXLEN', words[2], '*', unpack(words, 4))
    redis.pcall('EXPIRE', words[1] .. id, words[3])
end

