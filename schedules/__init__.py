"""When something happens: users' preferred times and tasks, broadcasts, and Beat's own table in the admin."""
