"""Who is acting: accounts that sign in with an e-mail address."""
