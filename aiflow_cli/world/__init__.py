"""What makes a trial: the live world of processes and sockets, and the recorder that makes one typed trial of what
happens.
"""
