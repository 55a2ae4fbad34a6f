"""Everything that touches private parts of Lightning and of other libraries."""
