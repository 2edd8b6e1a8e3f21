"""How durable waits are kept, whatever they are kept in: the rules once, over a book of them."""
