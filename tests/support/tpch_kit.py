"""The eight tables of TPC-H at a scale of about 0.01, always the same, and 22 queries over them.

DuckDB makes the rows from MD5 sums of row numbers, so that they do not depend on its version. Columns, types and keys are those of
the benchmark; values are drawn such that each query has rows.
"""

from __future__ import annotations

from typing import Final

import duckdb
import pyarrow as pa

_RANDOM = """
CREATE MACRO r(i, salt, n) AS (md5_number_lower(i || ' ' || salt) % n)::BIGINT;
CREATE MACRO pick(i, salt, l) AS l[1 + r(i, salt, len(l))];
CREATE MACRO cents(i, salt, lo, hi) AS ((lo + r(i, salt, hi - lo)) / 100)::DECIMAL(15, 2);
CREATE MACRO phone(i, nation) AS (10 + nation) || '-' || (100 + r(i, 61, 900)) || '-' || (100 + r(i, 62, 900)) || '-' || (1000 + r(i, 63, 9000));
CREATE MACRO words(i, salt) AS concat_ws(' ', pick(i, salt, ['carefully', 'quickly', 'furiously', 'slyly']),
    pick(i, salt + 1, ['special', 'final', 'pending', 'ironic', 'express']),
    pick(i, salt + 2, ['requests', 'accounts', 'deposits', 'packages']), pick(i, salt + 3, ['sleep', 'wake', 'haggle', 'nag']));
"""

_TABLES: Final = {
    "region": """
        SELECT i::INT AS r_regionkey, ['AFRICA', 'AMERICA', 'ASIA', 'EUROPE', 'MIDDLE EAST'][i + 1] AS r_name, words(i, 1) AS r_comment
        FROM range(5) t(i)""",
    "nation": """
        SELECT i::INT AS n_nationkey, l[i + 1] AS n_name,
            [0, 1, 1, 1, 4, 0, 3, 3, 2, 2, 4, 4, 2, 4, 0, 0, 0, 1, 2, 3, 4, 2, 3, 3, 1][i + 1] AS n_regionkey, words(i, 5) AS n_comment
        FROM range(25) t(i), (SELECT ['ALGERIA', 'ARGENTINA', 'BRAZIL', 'CANADA', 'EGYPT', 'ETHIOPIA', 'FRANCE', 'GERMANY', 'INDIA', 'INDONESIA', 'IRAN', 'IRAQ', 'JAPAN',
            'JORDAN', 'KENYA', 'MOROCCO', 'MOZAMBIQUE', 'PERU', 'CHINA', 'ROMANIA', 'SAUDI ARABIA', 'VIETNAM', 'RUSSIA', 'UNITED KINGDOM', 'UNITED STATES'] AS l)""",
    "supplier": """
        SELECT i AS s_suppkey, format('Supplier#{:09d}', i) AS s_name, 'street ' || r(i, 9, 900) AS s_address, r(i, 10, 25)::INT AS s_nationkey,
            phone(i, r(i, 10, 25)) AS s_phone, cents(i, 11, -99999, 999999) AS s_acctbal,
            words(i, 12) || if(r(i, 16, 12) = 0, ' Customer sad Complaints', '') AS s_comment
        FROM range(1, 101) t(i)""",
    "customer": """
        SELECT i AS c_custkey, format('Customer#{:09d}', i) AS c_name, 'street ' || r(i, 19, 900) AS c_address, r(i, 20, 25)::INT AS c_nationkey,
            phone(i, r(i, 20, 25)) AS c_phone, cents(i, 21, -99999, 999999) AS c_acctbal,
            pick(i, 22, ['AUTOMOBILE', 'BUILDING', 'FURNITURE', 'HOUSEHOLD', 'MACHINERY']) AS c_mktsegment, words(i, 23) AS c_comment
        FROM range(1, 1501) t(i)""",
    "part": """
        SELECT i AS p_partkey, pick(i, 30, ['green', 'forest', 'azure', 'blush', 'coral', 'ivory']) || ' ' || pick(i, 31, ['lace', 'linen', 'mint', 'navy', 'green']) AS p_name,
            'Manufacturer#' || (1 + r(i, 32, 5)) AS p_mfgr, 'Brand#' || (1 + r(i, 32, 5)) || (1 + r(i, 33, 5)) AS p_brand,
            pick(i, 34, ['STANDARD', 'SMALL', 'MEDIUM', 'LARGE', 'ECONOMY', 'PROMO']) || ' ' || pick(i, 35, ['ANODIZED', 'BURNISHED', 'PLATED', 'POLISHED', 'BRUSHED'])
                || ' ' || pick(i, 36, ['TIN', 'NICKEL', 'BRASS', 'STEEL', 'COPPER']) AS p_type,
            (1 + r(i, 37, 50))::INT AS p_size,
            pick(i, 38, ['SM', 'LG', 'MED', 'JUMBO', 'WRAP']) || ' ' || pick(i, 39, ['CASE', 'BOX', 'BAG', 'JAR', 'PKG', 'PACK', 'CAN', 'DRUM']) AS p_container,
            ((90000 + i // 10 % 20001 + 100 * (i % 1000)) / 100)::DECIMAL(15, 2) AS p_retailprice, words(i, 40) AS p_comment
        FROM range(1, 2001) t(i)""",
    "partsupp": """
        SELECT p AS ps_partkey, 1 + (p + s * 25 + p // 100) % 100 AS ps_suppkey, (1 + r(p * 4 + s, 44, 9999))::INT AS ps_availqty,
            cents(p * 4 + s, 45, 100, 100000) AS ps_supplycost, words(p * 4 + s, 46) AS ps_comment
        FROM range(1, 2001) t(p), range(4) u(s)""",
    "orders": """
        SELECT i * 4 AS o_orderkey, 1 + r(i, 50, 500) * 3 + r(i, 64, 2) AS o_custkey, pick(i, 51, ['F', 'F', 'O', 'P']) AS o_orderstatus,
            cents(i, 52, 90000, 50000000) AS o_totalprice, DATE '1992-01-01' + r(i, 53, 2406)::INT AS o_orderdate,
            pick(i, 54, ['1-URGENT', '2-HIGH', '3-MEDIUM', '4-NOT SPECIFIED', '5-LOW']) AS o_orderpriority,
            format('Clerk#{:09d}', 1 + r(i, 55, 10)) AS o_clerk, 0::INT AS o_shippriority, words(i, 56) AS o_comment
        FROM range(1, 15001) t(i)""",
    "lineitem": """
        SELECT o_orderkey AS l_orderkey, part AS l_partkey, 1 + (part + r(k, 71, 4) * 25 + part // 100) % 100 AS l_suppkey, (line + 1)::INT AS l_linenumber,
            quantity::DECIMAL(15, 2) AS l_quantity, (quantity * (90000 + part // 10 % 20001 + 100 * (part % 1000)) / 100)::DECIMAL(15, 2) AS l_extendedprice,
            (r(k, 73, 11) / 100)::DECIMAL(15, 2) AS l_discount, (r(k, 74, 9) / 100)::DECIMAL(15, 2) AS l_tax,
            if(receipt > DATE '1995-06-17', 'N', pick(k, 75, ['R', 'A'])) AS l_returnflag, if(ship > DATE '1995-06-17', 'O', 'F') AS l_linestatus,
            ship AS l_shipdate, o_orderdate + (30 + r(k, 76, 61))::INT AS l_commitdate, receipt AS l_receiptdate,
            pick(k, 77, ['DELIVER IN PERSON', 'COLLECT COD', 'NONE', 'TAKE BACK RETURN']) AS l_shipinstruct,
            pick(k, 78, ['REG AIR', 'AIR', 'RAIL', 'SHIP', 'TRUCK', 'MAIL', 'FOB']) AS l_shipmode, words(k, 79) AS l_comment
        FROM (SELECT *, ship + (1 + r(k, 81, 30))::INT AS receipt FROM (SELECT *, o_orderdate + (1 + r(k, 80, 121))::INT AS ship, 1 + r(k, 70, 2000) AS part, 1 + r(k, 72, 50) AS quantity
            FROM (SELECT o_orderkey, o_orderdate, line, o_orderkey * 2 + line AS k FROM orders, range(7) t(line) WHERE line <= r(o_orderkey, 69, 7))))""",
}

TPCH: Final = {
    1: """
        SELECT l_returnflag, l_linestatus, sum(l_quantity) AS sum_qty, sum(l_extendedprice) AS sum_base_price,
            sum(l_extendedprice * (1 - l_discount)) AS sum_disc_price, sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) AS sum_charge,
            avg(l_quantity) AS avg_qty, avg(l_extendedprice) AS avg_price, avg(l_discount) AS avg_disc, count(*) AS count_order
        FROM lineitem WHERE l_shipdate <= DATE '1998-12-01' - INTERVAL 90 DAY
        GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus""",
    2: """
        SELECT s_acctbal, s_name, n_name, p_partkey, p_mfgr, s_address, s_phone, s_comment FROM part, supplier, partsupp, nation, region
        WHERE p_partkey = ps_partkey AND s_suppkey = ps_suppkey AND p_size BETWEEN 10 AND 20 AND p_type LIKE '%BRASS' AND s_nationkey = n_nationkey
            AND n_regionkey = r_regionkey AND r_name = 'EUROPE' AND ps_supplycost = (
                SELECT min(ps_supplycost) FROM partsupp, supplier, nation, region WHERE p_partkey = ps_partkey AND s_suppkey = ps_suppkey
                    AND s_nationkey = n_nationkey AND n_regionkey = r_regionkey AND r_name = 'EUROPE')
        ORDER BY s_acctbal DESC, n_name, s_name, p_partkey LIMIT 100""",
    3: """
        SELECT l_orderkey, sum(l_extendedprice * (1 - l_discount)) AS revenue, o_orderdate, o_shippriority FROM customer, orders, lineitem
        WHERE c_mktsegment = 'BUILDING' AND c_custkey = o_custkey AND l_orderkey = o_orderkey AND o_orderdate < DATE '1995-03-15' AND l_shipdate > DATE '1995-03-15'
        GROUP BY l_orderkey, o_orderdate, o_shippriority ORDER BY revenue DESC, o_orderdate LIMIT 10""",
    4: """
        SELECT o_orderpriority, count(*) AS order_count FROM orders
        WHERE o_orderdate >= DATE '1993-07-01' AND o_orderdate < DATE '1993-07-01' + INTERVAL 3 MONTH
            AND EXISTS (SELECT * FROM lineitem WHERE l_orderkey = o_orderkey AND l_commitdate < l_receiptdate)
        GROUP BY o_orderpriority ORDER BY o_orderpriority""",
    5: """
        SELECT n_name, sum(l_extendedprice * (1 - l_discount)) AS revenue FROM customer, orders, lineitem, supplier, nation, region
        WHERE c_custkey = o_custkey AND l_orderkey = o_orderkey AND l_suppkey = s_suppkey AND c_nationkey = s_nationkey AND s_nationkey = n_nationkey
            AND n_regionkey = r_regionkey AND r_name = 'ASIA' AND o_orderdate >= DATE '1994-01-01' AND o_orderdate < DATE '1994-01-01' + INTERVAL 1 YEAR
        GROUP BY n_name ORDER BY revenue DESC""",
    6: """
        SELECT sum(l_extendedprice * l_discount) AS revenue FROM lineitem
        WHERE l_shipdate >= DATE '1994-01-01' AND l_shipdate < DATE '1994-01-01' + INTERVAL 1 YEAR AND l_discount BETWEEN 0.06 - 0.01 AND 0.06 + 0.01 AND l_quantity < 24""",
    7: """
        SELECT supp_nation, cust_nation, l_year, sum(volume) AS revenue FROM (
            SELECT n1.n_name AS supp_nation, n2.n_name AS cust_nation, extract(year FROM l_shipdate) AS l_year, l_extendedprice * (1 - l_discount) AS volume
            FROM supplier, lineitem, orders, customer, nation n1, nation n2
            WHERE s_suppkey = l_suppkey AND o_orderkey = l_orderkey AND c_custkey = o_custkey AND s_nationkey = n1.n_nationkey AND c_nationkey = n2.n_nationkey
                AND ((n1.n_name = 'FRANCE' AND n2.n_name = 'GERMANY') OR (n1.n_name = 'GERMANY' AND n2.n_name = 'FRANCE'))
                AND l_shipdate BETWEEN DATE '1995-01-01' AND DATE '1996-12-31') AS shipping
        GROUP BY supp_nation, cust_nation, l_year ORDER BY supp_nation, cust_nation, l_year""",
    8: """
        SELECT o_year, sum(CASE WHEN nation = 'BRAZIL' THEN volume ELSE 0 END) / sum(volume) AS mkt_share FROM (
            SELECT extract(year FROM o_orderdate) AS o_year, l_extendedprice * (1 - l_discount) AS volume, n2.n_name AS nation
            FROM part, supplier, lineitem, orders, customer, nation n1, nation n2, region
            WHERE p_partkey = l_partkey AND s_suppkey = l_suppkey AND l_orderkey = o_orderkey AND o_custkey = c_custkey AND c_nationkey = n1.n_nationkey
                AND n1.n_regionkey = r_regionkey AND r_name = 'AMERICA' AND s_nationkey = n2.n_nationkey
                AND o_orderdate BETWEEN DATE '1995-01-01' AND DATE '1996-12-31' AND p_type LIKE 'ECONOMY ANODIZED %') AS all_nations
        GROUP BY o_year ORDER BY o_year""",
    9: """
        SELECT nation, o_year, sum(amount) AS sum_profit FROM (
            SELECT n_name AS nation, extract(year FROM o_orderdate) AS o_year, l_extendedprice * (1 - l_discount) - ps_supplycost * l_quantity AS amount
            FROM part, supplier, lineitem, partsupp, orders, nation
            WHERE s_suppkey = l_suppkey AND ps_suppkey = l_suppkey AND ps_partkey = l_partkey AND p_partkey = l_partkey AND o_orderkey = l_orderkey
                AND s_nationkey = n_nationkey AND p_name LIKE '%green%') AS profit
        GROUP BY nation, o_year ORDER BY nation, o_year DESC""",
    10: """
        SELECT c_custkey, c_name, sum(l_extendedprice * (1 - l_discount)) AS revenue, c_acctbal, n_name, c_address, c_phone, c_comment
        FROM customer, orders, lineitem, nation
        WHERE c_custkey = o_custkey AND l_orderkey = o_orderkey AND o_orderdate >= DATE '1993-10-01' AND o_orderdate < DATE '1993-10-01' + INTERVAL 3 MONTH
            AND l_returnflag = 'R' AND c_nationkey = n_nationkey
        GROUP BY c_custkey, c_name, c_acctbal, c_phone, n_name, c_address, c_comment ORDER BY revenue DESC LIMIT 20""",
    11: """
        SELECT ps_partkey, sum(ps_supplycost * ps_availqty) AS value FROM partsupp, supplier, nation
        WHERE ps_suppkey = s_suppkey AND s_nationkey = n_nationkey AND n_name = 'GERMANY' GROUP BY ps_partkey
        HAVING sum(ps_supplycost * ps_availqty) > (SELECT sum(ps_supplycost * ps_availqty) * 0.0001 FROM partsupp, supplier, nation
            WHERE ps_suppkey = s_suppkey AND s_nationkey = n_nationkey AND n_name = 'GERMANY') ORDER BY value DESC""",
    12: """
        SELECT l_shipmode, sum(CASE WHEN o_orderpriority = '1-URGENT' OR o_orderpriority = '2-HIGH' THEN 1 ELSE 0 END) AS high_line_count,
            sum(CASE WHEN o_orderpriority <> '1-URGENT' AND o_orderpriority <> '2-HIGH' THEN 1 ELSE 0 END) AS low_line_count
        FROM orders, lineitem WHERE o_orderkey = l_orderkey AND l_shipmode IN ('MAIL', 'SHIP') AND l_commitdate < l_receiptdate AND l_shipdate < l_commitdate
            AND l_receiptdate >= DATE '1994-01-01' AND l_receiptdate < DATE '1994-01-01' + INTERVAL 1 YEAR
        GROUP BY l_shipmode ORDER BY l_shipmode""",
    13: """
        SELECT c_count, count(*) AS custdist FROM (
            SELECT c_custkey, count(o_orderkey) FROM customer LEFT OUTER JOIN orders ON c_custkey = o_custkey AND o_comment NOT LIKE '%special%requests%'
            GROUP BY c_custkey) AS c_orders (c_custkey, c_count)
        GROUP BY c_count ORDER BY custdist DESC, c_count DESC""",
    14: """
        SELECT 100.00 * sum(CASE WHEN p_type LIKE 'PROMO%' THEN l_extendedprice * (1 - l_discount) ELSE 0 END) / sum(l_extendedprice * (1 - l_discount)) AS promo_revenue
        FROM lineitem, part WHERE l_partkey = p_partkey AND l_shipdate >= DATE '1995-09-01' AND l_shipdate < DATE '1995-09-01' + INTERVAL 1 MONTH""",
    15: """
        WITH revenue AS (SELECT l_suppkey AS supplier_no, sum(l_extendedprice * (1 - l_discount)) AS total_revenue FROM lineitem
            WHERE l_shipdate >= DATE '1996-01-01' AND l_shipdate < DATE '1996-01-01' + INTERVAL 3 MONTH GROUP BY l_suppkey)
        SELECT s_suppkey, s_name, s_address, s_phone, total_revenue FROM supplier, revenue
        WHERE s_suppkey = supplier_no AND total_revenue = (SELECT max(total_revenue) FROM revenue) ORDER BY s_suppkey""",
    16: """
        SELECT p_brand, p_type, p_size, count(DISTINCT ps_suppkey) AS supplier_cnt FROM partsupp, part
        WHERE p_partkey = ps_partkey AND p_brand <> 'Brand#45' AND p_type NOT LIKE 'MEDIUM POLISHED%' AND p_size IN (49, 14, 23, 45, 19, 3, 36, 9)
            AND ps_suppkey NOT IN (SELECT s_suppkey FROM supplier WHERE s_comment LIKE '%Customer%Complaints%')
        GROUP BY p_brand, p_type, p_size ORDER BY supplier_cnt DESC, p_brand, p_type, p_size""",
    17: """
        SELECT sum(l_extendedprice) / 7.0 AS avg_yearly FROM lineitem, part
        WHERE p_partkey = l_partkey AND p_brand = 'Brand#23' AND p_container LIKE 'MED%'
            AND l_quantity < (SELECT 0.2 * avg(l_quantity) FROM lineitem WHERE l_partkey = p_partkey)""",
    18: """
        SELECT c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice, sum(l_quantity) FROM customer, orders, lineitem
        WHERE o_orderkey IN (SELECT l_orderkey FROM lineitem GROUP BY l_orderkey HAVING sum(l_quantity) > 260) AND c_custkey = o_custkey AND o_orderkey = l_orderkey
        GROUP BY c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice ORDER BY o_totalprice DESC, o_orderdate LIMIT 100""",
    19: """
        SELECT sum(l_extendedprice * (1 - l_discount)) AS revenue FROM lineitem, part
        WHERE (p_partkey = l_partkey AND p_brand = 'Brand#12' AND p_container IN ('SM CASE', 'SM BOX', 'SM PACK', 'SM PKG') AND l_quantity >= 1 AND l_quantity <= 11
                AND p_size BETWEEN 1 AND 25 AND l_shipmode IN ('AIR', 'REG AIR') AND l_shipinstruct = 'DELIVER IN PERSON')
            OR (p_partkey = l_partkey AND p_brand = 'Brand#23' AND p_container IN ('MED BAG', 'MED BOX', 'MED PKG', 'MED PACK') AND l_quantity >= 10 AND l_quantity <= 20
                AND p_size BETWEEN 1 AND 30 AND l_shipmode IN ('AIR', 'REG AIR') AND l_shipinstruct = 'DELIVER IN PERSON')
            OR (p_partkey = l_partkey AND p_brand = 'Brand#34' AND p_container IN ('LG CASE', 'LG BOX', 'LG PACK', 'LG PKG') AND l_quantity >= 20 AND l_quantity <= 30
                AND p_size BETWEEN 1 AND 35 AND l_shipmode IN ('AIR', 'REG AIR') AND l_shipinstruct = 'DELIVER IN PERSON')""",
    20: """
        SELECT s_name, s_address FROM supplier, nation WHERE s_suppkey IN (
            SELECT ps_suppkey FROM partsupp WHERE ps_partkey IN (SELECT p_partkey FROM part WHERE p_name LIKE 'forest%')
                AND ps_availqty > (SELECT 0.5 * sum(l_quantity) FROM lineitem WHERE l_partkey = ps_partkey AND l_suppkey = ps_suppkey
                    AND l_shipdate >= DATE '1994-01-01' AND l_shipdate < DATE '1994-01-01' + INTERVAL 1 YEAR))
            AND s_nationkey = n_nationkey AND n_name IN ('CANADA', 'KENYA', 'JAPAN') ORDER BY s_name""",
    21: """
        SELECT s_name, count(*) AS numwait FROM supplier, lineitem l1, orders, nation
        WHERE s_suppkey = l1.l_suppkey AND o_orderkey = l1.l_orderkey AND o_orderstatus = 'F' AND l1.l_receiptdate > l1.l_commitdate
            AND EXISTS (SELECT * FROM lineitem l2 WHERE l2.l_orderkey = l1.l_orderkey AND l2.l_suppkey <> l1.l_suppkey)
            AND NOT EXISTS (SELECT * FROM lineitem l3 WHERE l3.l_orderkey = l1.l_orderkey AND l3.l_suppkey <> l1.l_suppkey AND l3.l_receiptdate > l3.l_commitdate)
            AND s_nationkey = n_nationkey AND n_regionkey = 4 GROUP BY s_name ORDER BY numwait DESC, s_name LIMIT 100""",
    22: """
        SELECT cntrycode, count(*) AS numcust, sum(c_acctbal) AS totacctbal FROM (
            SELECT substring(c_phone FROM 1 FOR 2) AS cntrycode, c_acctbal FROM customer
            WHERE substring(c_phone FROM 1 FOR 2) IN ('13', '31', '23', '29', '30', '18', '17')
                AND c_acctbal > (SELECT avg(c_acctbal) FROM customer WHERE c_acctbal > 0.00 AND substring(c_phone FROM 1 FOR 2) IN ('13', '31', '23', '29', '30', '18', '17'))
                AND NOT EXISTS (SELECT * FROM orders WHERE o_custkey = c_custkey)) AS custsale
        GROUP BY cntrycode ORDER BY cntrycode""",
}  # fmt: skip
"""The 22 queries by their numbers; the substitution parameters are wider where a table this small has no row."""


def tpch_tables() -> dict[str, pa.Table]:
    """Return the eight tables by their names, 87,000 rows together."""
    with duckdb.connect(config={"threads": 1}) as made:
        made.execute(_RANDOM)
        for name, query in _TABLES.items():
            made.execute(f"CREATE TABLE {name} AS {query} ORDER BY ALL")
        return {name: made.table(name).to_arrow_table() for name in _TABLES}
