-- Opens the feeds of some buckets, or renews them.
-- KEYS: buckets, then their feeds. ARGV: the feeds' TTL in milliseconds, unless renewed
-- Returns the buckets' values, which the next feed entries follow
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
