"""When something happens: Beat's own table in the admin today; preferred times and tasks build on it."""
