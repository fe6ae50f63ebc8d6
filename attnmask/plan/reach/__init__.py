"""How far information travels: what a position can have seen after some layers of attention."""
