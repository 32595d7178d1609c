-- Begins to tell what is revoked in some buckets, or goes on with it.
-- KEYS: buckets, then their feeds. ARGV: for how many milliseconds, if nobody asks again
-- Returns the buckets' values; what is told from then on follows upon them
local all, values = #KEYS / 2, {}
for place = 1, all do
  values[place] = redis.call('MGET', KEYS[place])[1] or ''
  local bucket, feed = read(values[place]), KEYS[all + place]
  if bucket then
    if redis.call('EXISTS', feed) == 0 then
      redis.call('XADD', feed, string.format('%.0f-1', bucket.count), 'e', '')
    end
    redis.call('PEXPIRE', feed, ARGV[1])
  end
end
return values
