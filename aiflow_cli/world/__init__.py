"""What makes a trial: the live world of processes and sockets, and the recorder of what happens in it."""
