-- Raises everybody's generation in all buckets given.
-- KEYS: the buckets, then their feeds
-- Returns the buckets' values; 0 without doing anything where one of them is gone
local buckets = {}
for place = 1, #KEYS / 2 do
  buckets[place] = read(redis.call('MGET', KEYS[place])[1])
  if not buckets[place] then return 0 end
end
local at, stamp = now()
local values = {}
for place, bucket in ipairs(buckets) do
  bucket.gen, bucket.at = math.max(bucket.gen + 1, stamp), at
  values[place] = count(bucket, KEYS[place], KEYS[#buckets + place], 'a', '', '', '')
end
return values
