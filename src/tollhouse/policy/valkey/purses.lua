-- ARGV: names.  Answers n, spent, held, before, confirmed of those that are seeded.
local found = {}
for n = 3, #ARGV do
  local seeded, spent, held, is_confirmed = read_purse(ARGV[n])
  if seeded then
    for _, value in ipairs({n - 3, spent, held, seeded, is_confirmed and 1 or 0}) do
      found[#found + 1] = value
    end
  end
end
return found
