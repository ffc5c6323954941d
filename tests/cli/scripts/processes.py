import multiprocessing


def work(text):
    from lm import Summaries

    return Summaries()(text=text).answer


if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(work, ["a", "b"]))
