import os

# One thread a process: spinning threads of jobs side by side slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
