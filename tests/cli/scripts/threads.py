import threading

import dspy
from lm import Summaries

found = {}


def work(number):
    with dspy.context():
        found[number] = Summaries()(text=str(number)).answer


threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
threading.Thread(target=lambda: (threading.main_thread().join(), print("the last thread"))).start()
for thread in threads:
    thread.join()
print(sorted(found.items()))
