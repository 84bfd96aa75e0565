"""How executions, tables and quantities look. Decides nothing, calls nobody."""
