-- Raises the generation of all users in the given buckets.
-- KEYS: the buckets, then their feeds
-- Returns the buckets' values; changes nothing and returns 0 if one of them is gone
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
