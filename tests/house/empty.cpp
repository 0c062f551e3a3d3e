// The header under test comes with -include.
