"""The benchmark's official files, read without ever unpickling them."""
