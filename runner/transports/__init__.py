"""How a call travels: `http` sends it to its provider and waits; each way has one method that decides nothing."""
