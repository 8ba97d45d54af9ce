// mysql2 for Node.js against a running region: types there and back, bytes, prepared statements, transactions.
'use strict';
const assert = require('node:assert/strict');
const mysql = require('mysql2/promise');

const ROW = [
  1, -5, '18446744073709551615', '-123456789.12500', 1.5, 'Grüße 😀 it\'s \\ "quoted"\n', 'x'.repeat(60_000),
  Buffer.from([...Array(256).keys()]), Buffer.from([0, 255, 254, 39, 92]), '2026-11-24', '2026-11-24 10:11:12.345678',
  '30:00:00.000005', 1, null,
];
const COLUMNS = 'id INT PRIMARY KEY, a SMALLINT, b BIGINT UNSIGNED, c DECIMAL(20,5), d DOUBLE, e VARCHAR(100), f TEXT, g BLOB, '
  + 'h VARBINARY(20), i DATE, j DATETIME(6), k TIME(6), l BOOL, m VARCHAR(5)';
const INSERT = `INSERT INTO node.t VALUES (${ROW.map(() => '?').join(', ')})`;

const refused = (code, promise) =>
  assert.rejects(promise, (error) => {
    assert.equal(error.errno, code, error.message);
    return true;
  });

async function checkRow(rows, what) {
  rows[0].forEach((cell, at) => assert.deepEqual(cell, ROW[at], `${what}, column ${at}`));
}

async function main() {
  const connection = await mysql.createConnection({
    host: '127.0.0.1', port: Number(process.argv[2]), user: 'root', dateStrings: true, supportBigNumbers: true,
    rowsAsArray: true, charset: 'utf8mb4',
  });
  await connection.query('CREATE DATABASE node PARTITIONS 3');
  await connection.query(`CREATE TABLE node.t (${COLUMNS})`);
  assert.equal((await connection.query(INSERT, ROW))[0].affectedRows, 1);
  await checkRow((await connection.query('SELECT * FROM node.t WHERE id = 1'))[0], 'as text');
  await connection.query('DELETE FROM node.t');
  assert.equal((await connection.execute(INSERT, ROW))[0].affectedRows, 1);
  await checkRow((await connection.execute('SELECT * FROM node.t WHERE id = ?', [1]))[0], 'prepared');
  await connection.beginTransaction();
  await connection.execute('UPDATE node.t SET a = a + ? WHERE id = ?', [1, 1]);
  assert.equal((await connection.query('SELECT a FROM node.t'))[0][0][0], -4);
  await connection.rollback();
  assert.equal((await connection.query('SELECT a FROM node.t'))[0][0][0], -5);
  await refused(1062, connection.execute(INSERT, ROW));
  await refused(1146, connection.query('SELECT * FROM node.nothing'));
  await refused(1406, connection.query('UPDATE node.t SET m = ? WHERE id = 1', ['too long']));
  await connection.end();
  console.log('ok');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
