-- After a loss of data: a new epoch everywhere, so that nothing made before counts any more. Once.
-- KEYS: the marker of evictions, then all buckets
-- ARGV: the place among them of the bucket that shows the loss; the epoch found there ('' if it is gone);
--       a new epoch; '<run id> <evicted keys>' if keys were evicted, or ''; the epochs in use before, with commas
local values = redis.call('MGET', unpack(KEYS))

-- Has somebody else dealt with it?
if ARGV[4] ~= '' then
  local run, number = string.match(values[1] or '', '^(%S+) (%d+)$')
  local this_run, this_number = string.match(ARGV[4], '^(%S+) (%d+)$')
  if run == this_run and tonumber(number) >= tonumber(this_number) then return 0 end
  redis.call('SET', KEYS[1], ARGV[4])
else
  local here = values[1 + tonumber(ARGV[1])]
  if (here and read(here).epoch or '') ~= ARGV[2] then return 0 end
end

local former, seen = {}, { [ARGV[3]] = true }
local function remember(epoch)
  if not seen[epoch] and #former < 32 then
    seen[epoch] = true
    table.insert(former, epoch)
  end
end
for epoch in string.gmatch(ARGV[5], '[^,]+') do remember(epoch) end
for place = 2, #KEYS do
  if values[place] then remember(read(values[place]).epoch) end
end
for place = 2, #KEYS do
  if values[place] then
    for epoch in string.gmatch(read(values[place]).former, '[^,]+') do remember(epoch) end
  end
end

local at, stamp = now()
for place = 2, #KEYS do
  write(KEYS[place], { epoch = ARGV[3], gen = stamp, at = at, count = 0, former = table.concat(former, ',') })
end
return 1
