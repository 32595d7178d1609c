-- Raises everybody's generation in all buckets given.
-- KEYS: the buckets
-- Returns 1; 0 without doing anything where one of them is gone
local values = redis.call('MGET', unpack(KEYS))
for place = 1, #KEYS do
  if not read(values[place]) then return 0 end
end
local at, stamp = now()
for place = 1, #KEYS do
  local bucket = read(values[place])
  bucket.gen, bucket.at = math.max(bucket.gen + 1, stamp), at
  count(bucket)
  write(KEYS[place], bucket)
end
return 1
