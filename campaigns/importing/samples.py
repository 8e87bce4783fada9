"""Invented recipients for trying things: plausible, repeatable, and at addresses nobody can own.

All addresses lie in example.com, example.net and example.org, which RFC 2606 §3 reserves.
"""

import csv
import unicodedata
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import NamedTuple

from openpyxl import Workbook

DEFAULT_SEED = 2026
DOMAINS = ("example.com", "example.net", "example.org")
PLANS = {"free": 55, "starter": 22, "pro": 17, "business": 6}  # of 100 recipients


class SampleRecipient(NamedTuple):
    """One row; its fields, in this order, are the columns of a sample file."""

    email: str
    name: str
    first_name: str
    city: str
    plan: str
    timezone: str


class UnknownFormat(ValueError):
    """The file's name ends in neither .csv nor .xlsx; rename it."""


@dataclass(frozen=True, slots=True)
class _People:
    """Names that are found together; `written:latin` where the address needs another script than the name."""

    share: int
    timezone: str
    cities: tuple[str, ...]
    given: tuple[str, ...]
    family: tuple[str, ...]
    order: str = "{given} {family}"


def _people(
    share: int, timezone: str, cities: str, given: str, family: str, order: str = "{given} {family}"
) -> _People:
    return _People(
        share, timezone, tuple(cities.split(", ")), tuple(given.split()), tuple(family.split()), order
    )


_INDIA = "Asia/Kolkata"

PEOPLE = (
    _people(
        16,
        _INDIA,
        "Delhi, Jaipur, Lucknow, Chandigarh, Bhopal, Indore",
        "Aarav Aditi Akash Anjali Arjun Bhavna Deepak Divya Gaurav Isha Karan Kavya Manish Neha Nikhil Pooja "
        "Priya Rahul Riya Rohan Sakshi Sanjay Shreya Tanvi Vikram Vivaan Yash Zara",
        "Agarwal Bansal Bhatia Chaudhary Dubey Gupta Jain Kapoor Khanna Malhotra Mehra Mishra Saxena Sharma "
        "Singh Srivastava Tiwari Verma",
    ),
    _people(
        16,
        _INDIA,
        "Bengaluru, Chennai, Hyderabad, Kochi, Coimbatore, Mysuru",
        "Ananya Aravind Bhargavi Chitra Deepa Ganesh Hari Indira Karthik Keerthi Lakshmi Madhavan Meenakshi "
        "Nandini Nithya Padma Pranav Ramya Revathi Sandhya Sneha Suresh Varun Vidya",
        "Acharya Bhat Gowda Hegde Iyer Iyengar Krishnan Kurup Menon Nair Naidu Pillai Raghavan Rao Reddy "
        "Shetty Subramanian Varma",
    ),
    _people(
        10,
        _INDIA,
        "Mumbai, Pune, Nagpur, Ahmedabad, Surat, Vadodara",
        "Aniket Ashwini Chirag Darshan Hetal Jignesh Ketan Madhuri Mihir Mugdha Nilesh Prachi Rutuja Sachin "
        "Shubham Sonal Tejas Urvi Vaishali Vinayak",
        "Bhosale Chavan Deshmukh Deshpande Gokhale Joshi Kadam Kulkarni Mehta Pandya Patel Patil Parikh "
        "Pawar Shah Shinde Trivedi Vyas",
    ),
    _people(
        7,
        _INDIA,
        "Kolkata, Guwahati, Bhubaneswar, Patna, Ranchi",
        "Abhijit Anirban Arpita Debashis Ishita Joydeep Madhumita Moumita Partha Rituparna Sayan Shreyasi "
        "Soumya Sourav Subhash Swagata Tanmay",
        "Banerjee Barua Bhattacharya Bose Chatterjee Das Dutta Ghosh Mahapatra Mohanty Mukherjee Patnaik Roy "
        "Saikia Sen",
    ),
    _people(
        3,
        _INDIA,
        "Hyderabad, Lucknow, Srinagar, Bhopal, Aligarh",
        "Aisha Ayaan Faisal Farah Imran Nadia Rehan Rukhsana Sameer Yusuf Zoya",
        "Ahmed Ansari Farooqui Khan Mirza Qureshi Shaikh Siddiqui Syed",
    ),
    _people(
        2,
        _INDIA,
        "Amritsar, Ludhiana, Chandigarh, Delhi",
        "Amandeep Gurpreet Harleen Jaspreet Kirandeep Navjot Parminder Simran",
        "Bedi Dhillon Gill Grewal Kohli Sandhu Sidhu Singh",
    ),
    _people(
        2,
        _INDIA,
        "Panaji, Kochi, Kottayam, Mangaluru, Mumbai",
        "Anthony Bernadette Clifford Elsa Joseph Maria Rosamma Savio Thomas",
        "D'Souza Fernandes Kurian Lobo Mathew Pinto Rodrigues Varghese",
    ),
    _people(
        7,
        _INDIA,
        "Delhi, Varanasi, Pune, Jaipur, Indore",
        "आरव:aarav अनन्या:ananya अर्जुन:arjun दीपक:deepak दिव्या:divya ईशा:isha करण:karan कविता:kavita "
        "मीरा:meera नेहा:neha प्रिया:priya राहुल:rahul रोहित:rohit संजय:sanjay सुनीता:sunita विकास:vikas",
        "अग्रवाल:agrawal चौधरी:chaudhari देशमुख:deshmukh गुप्ता:gupta जोशी:joshi कुलकर्णी:kulkarni मिश्रा:mishra "
        "पाटील:patil शर्मा:sharma सिंह:singh तिवारी:tiwari वर्मा:verma",
    ),
    _people(
        4,
        "Europe/London",
        "London, Manchester, Bristol, Edinburgh, Leeds",
        "Alice Callum Charlotte Emily George Harriet Isla Jack Nia Oliver Rhys Sophie Thomas Zoë",
        "Baker Campbell Davies Evans Hughes MacLeod Okafor Patel Richardson Taylor Walker Wright",
    ),
    _people(
        4,
        "America/New_York",
        "New York, Boston, Atlanta, Miami, Philadelphia",
        "Ava Benjamin Chloe Daniel Elena Ethan Grace Jayden Madison Marcus Noah Olivia Renée Tyler",
        "Anderson Brooks Carter Cohen Goldberg Johnson Martínez Murphy Nguyen O'Connor Rivera Washington",
    ),
    _people(
        3,
        "America/Los_Angeles",
        "San Francisco, Los Angeles, Seattle, Portland",
        "Aiden Brianna Diego Hannah Jasmine Kai Luna Mason Sofía Wesley",
        "Chen García Hernández Kim Lee Miller Ramírez Thompson Tran Young",
    ),
    _people(
        4,
        "Europe/Berlin",
        "Berlin, München, Köln, Hamburg, Düsseldorf",
        "Anna Björn Clara Felix Günther Jürgen Käthe Lena Lukas Mareike Sören Ulrike",
        "Bäcker Fischer Großmann Jäger Köhler Krüger Müller Schäfer Schröder Weiß Wolff",
    ),
    _people(
        3,
        "Europe/Paris",
        "Paris, Lyon, Orléans, Nîmes, Besançon",
        "Anaïs Benoît Chloé Élodie François Hélène Jérôme Léa Mathéo Noémie Théo",
        "Bélanger Dubois Durand Fauré Lefèvre Lemaître Moreau Petit Rousseau Thévenet",
    ),
    _people(
        2,
        "Europe/Madrid",
        "Madrid, Málaga, A Coruña, Barcelona",
        "Álvaro Begoña Iñaki Íñigo Lucía María Nuria Raúl Sergio Ximena",
        "Álvarez Castaño Díaz Fernández Ibáñez López Muñoz Núñez Peña Vázquez",
    ),
    _people(
        2,
        "Europe/Warsaw",
        "Kraków, Łódź, Warszawa, Wrocław, Gdańsk",
        "Agnieszka Bartłomiej Grażyna Jędrzej Łukasz Małgorzata Paweł Stanisław Zofia",
        "Dąbrowska Kowalczyk Lewandowski Nowak Sikorska Szymański Wiśniewski Wójcik Zając",
    ),
    _people(
        3,
        "America/Sao_Paulo",
        "São Paulo, Brasília, Florianópolis, Rio de Janeiro",
        "Antônio Beatriz Conceição Fabrício Helena João Luísa Mônica Otávio Thaís",
        "Araújo Cardoso Conceição Gonçalves Lima Magalhães Oliveira Ribeiro Simões Souza",
    ),
    _people(
        2,
        "Africa/Lagos",
        "Lagos, Ibadan, Abuja, Enugu",
        "Adaeze Babajide Chinedu Fọlákẹ́ Ifeoma Ngozi Olúwaṣeun Tóbi Yetunde",
        "Adébáyò Bello Eze Ibrahim Nwosu Ògúnlànà Okonkwo Olawale Ṣóyínká",
    ),
    _people(
        3,
        "Asia/Tokyo",
        "Tokyo, 大阪, 京都, Yokohama, 札幌",
        "葵:aoi 陽菜:hina 健太:kenta 美咲:misaki 直樹:naoki 蓮:ren さくら:sakura 翔太:shota 由紀:yuki",
        "伊藤:ito 小林:kobayashi 中村:nakamura 佐藤:sato 鈴木:suzuki 高橋:takahashi 田中:tanaka "
        "渡辺:watanabe",
        "{family} {given}",
    ),
    _people(
        3,
        "Asia/Shanghai",
        "Shanghai, 北京, 成都, Hangzhou, 广州",
        "浩然:haoran 佳怡:jiayi 静:jing 俊杰:junjie 丽:li 明:ming 思远:siyuan 欣怡:xinyi 子涵:zihan",
        "陈:chen 黄:huang 李:li 刘:liu 王:wang 吴:wu 杨:yang 张:zhang 赵:zhao 周:zhou",
        "{family}{given}",
    ),
    _people(
        2,
        "Asia/Seoul",
        "서울, Busan, 인천, Daegu",
        "하은:haeun 지훈:jihoon 지우:jiwoo 민준:minjun 서연:seoyeon 수빈:subin 예린:yerin",
        "최:choi 정:jung 강:kang 김:kim 이:lee 박:park 윤:yoon",
        "{family}{given}",
    ),
    _people(
        3,
        "Asia/Singapore",
        "Singapore",
        "Aisyah Farid Hui-Min Jun-Wei Kavitha Mei-Ling Priya Rajesh Siti Wei-Jie Xiu-Ying",
        "Chua Goh Lim Nair Ng Ong Rahman Tan Teo Wong",
    ),
    _people(
        2,
        "Asia/Dubai",
        "Dubai, Abu Dhabi, Sharjah",
        "Ahmad Fatima Hamad Khalid Layla Mariam Noor Omar Rashid Salma",
        "Al-Farsi Al-Mansoori Darwish Haddad Hashemi Kazim Najjar Rahmani Saleh",
    ),
    _people(
        2,
        "Asia/Kathmandu",
        "Kathmandu, Pokhara, Lalitpur, Bharatpur",
        "Anil Bimala Deepika Kiran Manoj Nabin Pema Sabina Sarita Tenzin",
        "Adhikari Basnet Gurung Karki Maharjan Poudel Rai Sherpa Shrestha Tamang",
    ),
    _people(
        2,
        "Australia/Sydney",
        "Sydney, Wollongong, Newcastle",
        "Archie Bronte Cooper Freya Harper Lachlan Matilda Ruby Sienna Xavier",
        "Bailey Edwards Fraser Harris Kelly Mitchell Nguyen Papadopoulos Stewart",
    ),
    _people(
        1,
        "Africa/Nairobi",
        "Nairobi, Mombasa, Kisumu",
        "Achieng Baraka Faith Jomo Kamau Makena Njeri Wanjiru Zawadi",
        "Kariuki Kimani Mwangi Ochieng Odhiambo Otieno Wambui",
    ),
)

_NO_DECOMPOSITION = str.maketrans({"ß": "ss", "ł": "l", "ø": "o", "æ": "ae"})


def sample_recipients(rows: int, *, seed: int = DEFAULT_SEED) -> Iterator[SampleRecipient]:
    """Yield `rows` recipients, no address twice; the first thousand are the same however many are asked for.

    One is made at a time, so that memory does not grow with `rows`. Raises ValueError below 0.
    """
    if rows < 0:
        raise ValueError(f"rows is {rows}; it must be 0 or more")
    # Random.random() is the one method whose sequence for a seed Python promises to keep.
    draw = Random(seed).random  # noqa: S311 - invented people, no secrets
    groups = tuple(accumulate(people.share for people in PEOPLE))
    plans = tuple(accumulate(PLANS.values()))
    return (_recipient(number, draw, groups, plans) for number in range(1, rows + 1))


def write_samples(path: Path, rows: int, *, seed: int = DEFAULT_SEED) -> None:
    """Write `rows` recipients under a heading to `path`, as CSV (UTF-8) or XLSX by its extension.

    A file of that name is replaced, once the new one is whole. Raises UnknownFormat, ValueError, OSError.
    """
    write = _writer(path)
    recipients = sample_recipients(rows, seed=seed)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        write(unfinished, recipients)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _recipient(
    number: int, draw: Callable[[], float], groups: Sequence[int], plans: Sequence[int]
) -> SampleRecipient:
    people = PEOPLE[_weighted(draw, groups)]
    given, given_latin = _name(_any(draw, people.given))
    family, family_latin = _name(_any(draw, people.family))
    return SampleRecipient(
        # the number makes the address distinct, since names hold no digits
        email=f"{given_latin}.{family_latin}{number}@{_any(draw, DOMAINS)}",
        name=people.order.format(given=given, family=family),
        first_name=given,
        city=_any(draw, people.cities),
        plan=tuple(PLANS)[_weighted(draw, plans)],
        timezone=people.timezone,
    )


def _any(draw: Callable[[], float], choices: Sequence[str]) -> str:
    return choices[int(draw() * len(choices))]


def _weighted(draw: Callable[[], float], cumulative: Sequence[int]) -> int:
    return bisect(cumulative, draw() * cumulative[-1])


def _name(entry: str) -> tuple[str, str]:
    """Return a name as it is written and as it stands in an address."""
    written, _, latin = entry.partition(":")
    return written, latin or _latin(written)


def _latin(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name.lower().translate(_NO_DECOMPOSITION))
    return "".join(letter for letter in decomposed if letter.isascii() and letter.isalpha())


def _writer(path: Path) -> Callable[[Path, Iterator[SampleRecipient]], None]:
    match path.suffix.lower():
        case ".csv":
            return _write_csv
        case ".xlsx":
            return _write_xlsx
        case other:
            found = f"the extension is {other!r}" if other else "the extension is missing"
            raise UnknownFormat(f"{path.name}: {found}; write to .csv or .xlsx")


def _write_csv(path: Path, recipients: Iterator[SampleRecipient]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SampleRecipient._fields)
        writer.writerows(recipients)


def _write_xlsx(path: Path, recipients: Iterator[SampleRecipient]) -> None:
    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("Recipients")
    sheet.append(SampleRecipient._fields)
    for recipient in recipients:
        sheet.append(recipient)
    workbook.save(path)
