"""An app with the table that the peers import into."""
